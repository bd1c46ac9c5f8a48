// Ioevents, interrupts, clocks, capabilities, and vCPUs that run no guest code.
#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "vmm/base/status_matchers.h"
#include "vmm/core/testing/hypervisor_suite.h"
#include "vmm/core/vm_plan.h"

namespace drover {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;

auto IsRefused(StatusCode code, int error) { return AllOf(StatusIs(code), HasErrno(error)); }
auto AbsentError() { return IsRefused(StatusCode::kNotFound, ENOENT); }
auto MalformedError() { return IsRefused(StatusCode::kInvalidArgument, EINVAL); }
auto OutsideError() { return IsRefused(StatusCode::kOutOfRange, EFAULT); }
auto WrapsError() { return IsRefused(StatusCode::kOutOfRange, EOVERFLOW); }
auto DuplicateError() { return IsRefused(StatusCode::kAlreadyExists, EEXIST); }
auto UnsupportedError() { return IsRefused(StatusCode::kUnimplemented, EOPNOTSUPP); }

constexpr IoAddress Port(uint64_t address) { return {IoAddress::Space::kPort, address}; }
constexpr IoAddress Mmio(uint64_t address) { return {IoAddress::Space::kMmio, address}; }

TEST_P(HypervisorSuite, CapabilitiesComeBackFromText) {
  const BackendCapabilities& has = hypervisor().capabilities();
  EXPECT_EQ(BackendCapabilities::FromMap(has.ToMap()), has);
  EXPECT_NE(has.kind, BackendKind::kNone);
  EXPECT_GE(has.max_vcpus, 1u);
  EXPECT_GE(has.memory_slots, 32u);
  EXPECT_GE(has.guest_physical_bits, 36u);
  EXPECT_GE(has.xsave_bytes, 4096u);
}

TEST_P(HypervisorSuite, PeerNew) { EXPECT_OK(GetParam().make()); }

TEST_P(HypervisorSuite, PeerCheckCapability) {
  EXPECT_TRUE(hypervisor().capabilities().Has("immediate_exit"));
  EXPECT_FALSE(hypervisor().capabilities().Has("hypervisor_initialized_boot_context"));
}

TEST_P(HypervisorSuite, PeerCheckVmArchCapability) {
  EXPECT_TRUE(vm().CheckCapability(VmCapability::kPvClock));
}

TEST_P(HypervisorSuite, PeerCheckVmCapability) {
  const BackendCapabilities& has = hypervisor().capabilities();
  EXPECT_EQ(vm().CheckCapability(VmCapability::kDirtyLog), has.dirty_page_tracking);
  EXPECT_EQ(vm().CheckCapability(VmCapability::kReadOnlyMemory), has.read_only_memory);
  EXPECT_EQ(vm().CheckCapability(VmCapability::kIrqfd), has.irqfd);
  EXPECT_EQ(vm().CheckCapability(VmCapability::kIoeventfd), has.ioeventfd);
  EXPECT_FALSE(vm().CheckCapability(static_cast<VmCapability>(999)));
}

TEST_P(HypervisorSuite, EnableCapability) {
  EXPECT_THAT(vm().EnableCapability(VmCapability::kDirtyLog, 0), IsOkAndHolds(true));
  EXPECT_THAT(vm().EnableCapability(VmCapability::kNoncoherentDma, 0), IsOkAndHolds(false));
  EXPECT_THAT(vm().EnableCapability(VmCapability::kDirtyLog, 1), MalformedError());
  EXPECT_THAT(vm().EnableCapability(VmCapability::kBusLockDetect, 0),
              IsOkAndHolds(vm().CheckCapability(VmCapability::kBusLockDetect)));
}

TEST_P(HypervisorSuite, WhatIsWithheldIsUnsupported) {
  ASSERT_OK(hypervisor().Withhold({"read_only_memory", "dirty_page_tracking", "irqfd", "ioeventfd",
                                   "irqfd_resample", "kvmclock_realtime", "split_irqchip",
                                   "dirty_ring_bytes"}));
  for (const VmCapability capability :
       {VmCapability::kDirtyLog, VmCapability::kReadOnlyMemory, VmCapability::kIrqfd,
        VmCapability::kIoeventfd, VmCapability::kSplitIrqchip}) {
    EXPECT_FALSE(vm().CheckCapability(capability));
    EXPECT_THAT(vm().EnableCapability(capability, 0), IsOkAndHolds(false));
  }
  EXPECT_THAT(vm().AddMemoryRegion(2 * kRam, Region(kPage), true, false, CacheType::kCoherent),
              UnsupportedError());
  EXPECT_THAT(vm().AddMemoryRegion(2 * kRam, Region(kPage), false, true, CacheType::kCoherent),
              UnsupportedError());
  EXPECT_THAT(vm().SetDirtyLogging(0, true), UnsupportedError());
  EXPECT_THAT(vm().OpenDirtySource({}), UnsupportedError());
  EXPECT_THAT(vm().RegisterIoevent(Event(), Port(0xf4), {}), UnsupportedError());
  EXPECT_THAT(vm().CreateIrqchip({.pit = false, .split = true}), UnsupportedError());
  GiveIrqchip();
  EXPECT_THAT(vm().RegisterIrqfd(Event(), 5, nullptr), UnsupportedError());
  ASSERT_OK_AND_ASSIGN(PvClock clock, vm().GetPvClock());
  EXPECT_EQ(clock.realtime_nanos, std::nullopt);
  clock.realtime_nanos = 1;
  EXPECT_THAT(vm().SetPvClock(clock), UnsupportedError());
}

TEST_P(HypervisorSuite, AMachineWithoutAWithheldLimit) {
  ASSERT_OK(hypervisor().Withhold({"max_vcpus", "irqchip", "guest_physical_bits"}));
  EXPECT_FALSE(hypervisor().capabilities().irqchip);
  EXPECT_EQ(vm().GuestPhysicalBits(), 0u);
  EXPECT_THAT(vm().CreateIrqchip({}), UnsupportedError());
  EXPECT_THAT(vm().CreateVcpu(0, 1), MalformedError());
}

// CapabilityUsages on this backend: what it has and is then withheld is refused or falls back, by
// its name.
TEST_P(HypervisorSuite, EachCapabilityThatIsWithheldIsRefusedOrFallsBack) {
  for (const CapabilityUsage& usage : CapabilityUsages()) {
    ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Hypervisor> backend, GetParam().make());
    if (!backend->capabilities().Has(usage.name)) continue;
    ASSERT_OK(backend->Withhold({usage.name}));
    std::vector<std::string> missing, required;
    for (const MemoryPages pages : {MemoryPages::k4K, MemoryPages::k2M}) {
      VmConfig config = {
          .vcpus = 1, .memory_bytes = uint64_t{4} << 30, .features = {}, .needs = {}};
      config.features = {.memory_pages = {pages, false},
                         .dirty_log = {DirtyLogMode::kRing, false},
                         .snapshots = {SnapshotMode::kLive, false},
                         .migration = {MigrationMode::kPostCopy, false}};
      const VmResolution wished = ResolveVm(config, backend->capabilities());
      for (const Fallback& fallback : wished.plan.fallbacks) missing.push_back(fallback.capability);
      for (const Refusal& refusal : wished.refusals) missing.push_back(refusal.capability);
      config.features.memory_pages.required = config.features.dirty_log.required = true;
      config.features.snapshots.required = config.features.migration.required = true;
      for (const Refusal& refusal : ResolveVm(config, backend->capabilities()).refusals)
        required.push_back(refusal.capability);
    }
    const bool matters = usage.use == CapabilityUse::kRequired ||
                         usage.use == CapabilityUse::kLimit ||
                         usage.use == CapabilityUse::kFallback;
    EXPECT_EQ(std::count(missing.begin(), missing.end(), usage.name) != 0, matters) << usage.name;
    EXPECT_EQ(std::count(required.begin(), required.end(), usage.name) != 0, matters) << usage.name;
  }
}

TEST_P(HypervisorSuite, AnUnknownCapabilityIsNotWithheld) {
  const BackendCapabilities before = hypervisor().capabilities();
  EXPECT_THAT(hypervisor().Withhold({"irqfd", "flux_capacitor"}),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("irqfd_resample")));
  EXPECT_EQ(hypervisor().capabilities(), before);
}

TEST_P(HypervisorSuite, GuestPhysicalBitsAgree) {
  EXPECT_EQ(vm().GuestPhysicalBits(), hypervisor().capabilities().guest_physical_bits);
}

TEST_P(HypervisorSuite, DevicesOfAnotherArchitectureAreUnsupported) {
  for (const DeviceKind kind : {DeviceKind::kVgicV2, DeviceKind::kVgicV3, DeviceKind::kVgicIts})
    EXPECT_THAT(vm().CreateDevice(kind), UnsupportedError());
}

TEST_P(HypervisorSuite, VfioDeviceWhereTheHostHasIt) {
  const absl::StatusOr<Fd> device = vm().CreateDevice(DeviceKind::kVfio);
  if (device.ok()) return;
  EXPECT_THAT(device, UnsupportedError());
}

TEST_P(HypervisorSuite, PeerRegisterIoevent) {
  EXPECT_OK(vm().RegisterIoevent(Event(), Port(0xf4), {}));
  EXPECT_OK(vm().RegisterIoevent(Event(), Mmio(0x1000), {}));
  EXPECT_OK(vm().RegisterIoevent(Event(), Port(0xc1), {.width = 1, .value = 0}));
  EXPECT_OK(vm().RegisterIoevent(Event(), Port(0xc2), {.width = 2, .value = 0}));
  EXPECT_OK(vm().RegisterIoevent(Event(), Port(0xc4), {.width = 4, .value = 0}));
  EXPECT_OK(vm().RegisterIoevent(Event(), Port(0xc8), {.width = 8, .value = 0}));
}

TEST_P(HypervisorSuite, PeerUnregisterIoevent) {
  const struct {
    IoAddress at;
    Datamatch match;
  } cases[] = {{Port(0xf4), {}}, {Mmio(0x1000), {}}, {Mmio(0x1004), {.width = 1}}};
  for (const auto& [at, match] : cases) {
    const Fd event = Event();
    ASSERT_OK(vm().RegisterIoevent(event, at, match));
    EXPECT_OK(vm().UnregisterIoevent(event, at, match));
    EXPECT_THAT(vm().UnregisterIoevent(event, at, match), AbsentError());
  }
}

TEST_P(HypervisorSuite, IoeventDuplicates) {
  const Fd a = Event(), b = Event();
  for (const IoAddress& at : {Port(0x500), Mmio(0x2000)}) {
    ASSERT_OK(vm().RegisterIoevent(a, at, {.width = 4, .value = 7}));
    EXPECT_THAT(vm().RegisterIoevent(a, at, {.width = 4, .value = 7}), DuplicateError());
    EXPECT_THAT(vm().RegisterIoevent(b, at, {.width = 4, .value = 7}), DuplicateError());
    EXPECT_THAT(vm().RegisterIoevent(b, at, {.width = 4}), DuplicateError()) << "wildcard";
    EXPECT_THAT(vm().RegisterIoevent(b, at, {}), DuplicateError()) << "any length";
    EXPECT_OK(vm().RegisterIoevent(b, at, {.width = 4, .value = 8})) << "another value";
    EXPECT_OK(vm().RegisterIoevent(b, at, {.width = 2})) << "another width";
    EXPECT_THAT(vm().RegisterIoevent(a, at, {.width = 2, .value = 1}), DuplicateError());
  }
  EXPECT_OK(vm().RegisterIoevent(a, Mmio(0x500), {})) << "another space";
  EXPECT_THAT(vm().RegisterIoevent(b, Mmio(0x500), {.width = 1}), DuplicateError());
}

TEST_P(HypervisorSuite, UnregisterIoeventTakesExactlyWhatWasRegistered) {
  const Fd event = Event(), other = Event();
  ASSERT_OK(vm().RegisterIoevent(event, Mmio(0x3000), {.width = 4, .value = 7}));
  EXPECT_THAT(vm().UnregisterIoevent(other, Mmio(0x3000), {.width = 4, .value = 7}), AbsentError());
  EXPECT_THAT(vm().UnregisterIoevent(event, Mmio(0x3004), {.width = 4, .value = 7}), AbsentError());
  EXPECT_THAT(vm().UnregisterIoevent(event, Port(0x3000), {.width = 4, .value = 7}), AbsentError());
  EXPECT_THAT(vm().UnregisterIoevent(event, Mmio(0x3000), {.width = 4, .value = 8}), AbsentError());
  EXPECT_THAT(vm().UnregisterIoevent(event, Mmio(0x3000), {.width = 2, .value = 7}), AbsentError());
  EXPECT_THAT(vm().UnregisterIoevent(event, Mmio(0x3000), {.width = 4}), AbsentError());
  EXPECT_THAT(vm().UnregisterIoevent(event, Mmio(0x3000), {}), AbsentError());
  EXPECT_OK(vm().UnregisterIoevent(event, Mmio(0x3000), {.width = 4, .value = 7}));
}

TEST_P(HypervisorSuite, IoeventRefusesBadArguments) {
  const Fd event = Event();
  const auto add = [&](IoAddress at, Datamatch match) {
    return vm().RegisterIoevent(event, at, match);
  };
  for (const uint32_t width : {3u, 5u, 6u, 7u, 9u, 16u, ~0u})
    EXPECT_THAT(add(Mmio(0x1000), {.width = width}), MalformedError());
  EXPECT_THAT(add(Mmio(0x1000), {.width = 0, .value = 1}), MalformedError());
  EXPECT_THAT(add(Mmio(0x1000), {.width = 1, .value = 0x100}), MalformedError());
  EXPECT_THAT(add(Mmio(0x1000), {.width = 4, .value = 1ull << 32}), MalformedError());
  EXPECT_THAT(add(Mmio(~uint64_t{0} - 2), {.width = 8}), WrapsError());
  EXPECT_THAT(add(Port(0x10000), {.width = 1}), OutsideError());
  EXPECT_THAT(add(Port(0xffff), {.width = 2}), OutsideError());
  EXPECT_THAT(vm().RegisterIoevent(Fd(), Mmio(0x1000), {}), MalformedError());
  EXPECT_THAT(vm().UnregisterIoevent(Fd(), Mmio(0x1000), {}), MalformedError());
  const Fd no_event = MakeMemFd("no eventfd", 4096).value();
  EXPECT_THAT(vm().RegisterIoevent(no_event, Mmio(0x1000), {}), MalformedError());
  EXPECT_OK(add(Mmio(0x1000), {})) << "nothing of all that stayed";
}

TEST_P(HypervisorSuite, CloneSharesIoevents) {
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Vm> clone, vm().Clone());
  const Fd event = Event();
  ASSERT_OK(vm().RegisterIoevent(event, Port(0x510), {.width = 1}));
  EXPECT_THAT(clone->RegisterIoevent(event, Port(0x510), {.width = 1}), DuplicateError());
  EXPECT_OK(clone->UnregisterIoevent(event, Port(0x510), {.width = 1}));
}

TEST_P(HypervisorSuite, HandleIoEventsOfNobodyIsFine) {
  const uint8_t data[] = {1, 2};
  EXPECT_OK(vm().HandleIoEvents(Port(0x77), data));
}

TEST_P(HypervisorSuite, PeerRegisterIrqfd) {
  GiveIrqchip();
  const Fd e1 = Event(), e2 = Event(), e3 = Event();
  EXPECT_OK(vm().RegisterIrqfd(e1, 4, nullptr));
  EXPECT_OK(vm().RegisterIrqfd(e2, 8, nullptr));
  EXPECT_OK(vm().RegisterIrqfd(e3, 4, nullptr));
  EXPECT_THAT(vm().RegisterIrqfd(e3, 4, nullptr), DuplicateError());
  EXPECT_THAT(vm().RegisterIrqfd(e3, 5, nullptr), DuplicateError()) << "on another line";
}

TEST_P(HypervisorSuite, PeerUnregisterIrqfd) {
  GiveIrqchip();
  const Fd event = Event();
  for (const uint32_t gsi : {4u, 8u, 4u}) {
    EXPECT_OK(vm().RegisterIrqfd(event, gsi, nullptr));
    EXPECT_OK(vm().UnregisterIrqfd(event, gsi));
  }
  EXPECT_OK(vm().UnregisterIrqfd(event, 4)) << "absent";
}

TEST_P(HypervisorSuite, PeerIrqfdResample) {
  if (!hypervisor().capabilities().irqfd_resample) GTEST_SKIP() << "SKIPPED: no resample here";
  GiveIrqchip();
  const Fd event = Event(), resample = Event(), closed;
  EXPECT_OK(vm().RegisterIrqfd(event, 4, &resample));
  EXPECT_OK(vm().UnregisterIrqfd(event, 4));
  EXPECT_THAT(vm().RegisterIrqfd(event, 4, &closed), MalformedError());
}

TEST_P(HypervisorSuite, IrqfdRefusesBadArguments) {
  const Fd event = Event();
  EXPECT_THAT(vm().RegisterIrqfd(event, 4, nullptr), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_THAT(vm().UnregisterIrqfd(event, 4), StatusIs(StatusCode::kFailedPrecondition));
  GiveIrqchip();
  EXPECT_THAT(vm().RegisterIrqfd(Fd(), 4, nullptr), MalformedError());
  EXPECT_THAT(vm().UnregisterIrqfd(Fd(), 4), MalformedError());
  EXPECT_THAT(vm().RegisterIrqfd(event, 99999, nullptr), OutsideError());
  EXPECT_THAT(vm().UnregisterIrqfd(event, 99999), OutsideError());
  const Fd no_event = MakeMemFd("no eventfd", 4096).value();
  EXPECT_THAT(vm().RegisterIrqfd(no_event, 4, nullptr), MalformedError());
  EXPECT_THAT(vm().RegisterIrqfd(event, 4, &no_event),
              hypervisor().capabilities().irqfd_resample
                  ? testing::Matcher<absl::Status>(MalformedError())
                  : testing::Matcher<absl::Status>(UnsupportedError()));
  EXPECT_OK(vm().RegisterIrqfd(event, 4, nullptr)) << "nothing of all that stayed";
}

TEST_P(HypervisorSuite, IrqchipOnce) {
  EXPECT_THAT(vm().ResetIrqchip(), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_THAT(vm().CreateIrqchip({.pit = true, .split = true}), MalformedError());
  ASSERT_OK(vm().CreateIrqchip({}));
  EXPECT_THAT(vm().CreateIrqchip({}), DuplicateError());
  EXPECT_THAT(vm().CreateIrqchip({.pit = false, .split = true}), DuplicateError());
  EXPECT_OK(vm().ResetIrqchip());
}

TEST_P(HypervisorSuite, IrqchipWithoutPit) {
  ASSERT_OK(vm().CreateIrqchip({.pit = false}));
  EXPECT_OK(vm().ResetIrqchip());
}

TEST_P(HypervisorSuite, IrqchipAfterVcpuIsRefused) {
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Vcpu> vcpu, vm().CreateVcpu(0, 1));
  EXPECT_THAT(vm().CreateIrqchip({}), MalformedError());
}

TEST_P(HypervisorSuite, SplitIrqchipHasNoLines) {
  if (!hypervisor().capabilities().split_irqchip) GTEST_SKIP() << "SKIPPED: no split irqchip here";
  ASSERT_THAT(vm().EnableCapability(VmCapability::kSplitIrqchip, 0), IsOkAndHolds(true));
  EXPECT_THAT(vm().MakeIrqLine(4), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_OK(vm().ResetIrqchip());
  EXPECT_THAT(vm().EnableCapability(VmCapability::kSplitIrqchip, 0), DuplicateError());
}

TEST_P(HypervisorSuite, IrqLines) {
  EXPECT_THAT(vm().MakeIrqLine(4), StatusIs(StatusCode::kFailedPrecondition));
  GiveIrqchip();
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<IrqLine> line, vm().MakeIrqLine(4));
  line->Set(true);
  line->Set(false);
  line->Pulse();
  EXPECT_OK(vm().MakeIrqLine(23));
  EXPECT_THAT(vm().MakeIrqLine(24), OutsideError());
  EXPECT_THAT(vm().MakeIrqLine(~0u), OutsideError());
}

TEST_P(HypervisorSuite, PeerClockHandling) {
  ASSERT_OK_AND_ASSIGN(PvClock clock, vm().GetPvClock());
  clock.nanos += 1'000'000'000'000;
  clock.realtime_nanos.reset();
  ASSERT_OK(vm().SetPvClock(clock));
  ASSERT_OK_AND_ASSIGN(const PvClock now, vm().GetPvClock());
  EXPECT_GE(now.nanos, clock.nanos);
}

TEST_P(HypervisorSuite, ClockWithRealtime) {
  PvClock clock = {.nanos = 5'000'000'000, .realtime_nanos = 1'700'000'000'000'000'000};
  if (!hypervisor().capabilities().kvmclock_realtime) {
    EXPECT_THAT(vm().SetPvClock(clock), UnsupportedError());
    return;
  }
  ASSERT_OK(vm().SetPvClock(clock));
  ASSERT_OK_AND_ASSIGN(const PvClock now, vm().GetPvClock());
  EXPECT_GE(now.nanos, clock.nanos) << "it went on since that moment";
}

TEST_P(HypervisorSuite, PeerCreateVcpu) {
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Vcpu> vcpu, vm().CreateVcpu(0, 1));
  EXPECT_EQ(vcpu->id(), 0u);
}

TEST_P(HypervisorSuite, CreateVcpuRefusesBadArguments) {
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Vcpu> vcpu, vm().CreateVcpu(0, 2));
  EXPECT_THAT(vm().CreateVcpu(0, 2), DuplicateError());
  EXPECT_THAT(vm().CreateVcpu(2, 2), MalformedError());
  EXPECT_THAT(vm().CreateVcpu(0, 0), MalformedError());
  EXPECT_THAT(vm().CreateVcpu(~0u, 2), MalformedError());
  EXPECT_THAT(vm().CreateVcpu(1, hypervisor().capabilities().max_vcpus + 1), MalformedError());
  EXPECT_OK(vm().CreateVcpu(1, 2));
}

TEST_P(HypervisorSuite, VcpuBeforeItsFirstRun) {
  GiveIrqchip();
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Vcpu> vcpu, vm().CreateVcpu(0, 1));
  EXPECT_OK(vcpu->SetUpForBoot({.rip = 0x1000, .rsp = 0x2000}));
  EXPECT_OK(vcpu->SetUpForBoot({.rip = 0x1000, .rsp = 0x2000})) << "again";
  EXPECT_OK(vcpu->CompleteExit());
  EXPECT_OK(vcpu->NotifyPaused());
  EXPECT_THAT(vcpu->DumpRegisters(), HasSubstr("rip="));
}

TEST_P(HypervisorSuite, ADirtySourceKeepsItsMachine) {
  std::unique_ptr<Vm> made = MakeVm({{0, kRam}});
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<DirtySource> source, made->OpenDirtySource({}));
  made.reset();
  EXPECT_EQ(source->slots().Slots().size(), 1u);
  EXPECT_OK(source->Prepare(DirtyStart::kClean));
}

size_t OpenDescriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    ++count;
  return count;
}

size_t Mappings() {
  std::ifstream maps("/proc/self/maps");
  return static_cast<size_t>(
      std::count(std::istreambuf_iterator<char>(maps), std::istreambuf_iterator<char>(), '\n'));
}

TEST_P(HypervisorSuite, RefusalsLeakNothing) {
  GiveIrqchip();
  const std::unique_ptr<Vcpu> vcpu = vm().CreateVcpu(0, 1).value();
  ASSERT_OK(vcpu->SetUpForBoot({}));
  VcpuState state = vcpu->SaveState().value();
  state.mp_state = static_cast<MpState>(99);
  const Fd event = Event(), no_event = MakeMemFd("no eventfd", kPage).value();
  const auto refuse_all = [&] {
    EXPECT_FALSE(hypervisor().CreateVm(GuestMemory::Create({{1ull << 62, kPage}}).value()).ok());
    EXPECT_FALSE(Add(0, 1).ok());
    EXPECT_FALSE(Add(1ull << 62, 1).ok());
    EXPECT_FALSE(vm().RegisterIoevent(no_event, Mmio(0), {.width = 4}).ok());
    EXPECT_FALSE(vm().RegisterIrqfd(no_event, 4, nullptr).ok());
    EXPECT_FALSE(vm().RegisterIrqfd(event, 99999, &event).ok());
    EXPECT_FALSE(vm().CreateIrqchip({}).ok());
    EXPECT_FALSE(vm().CreateVcpu(0, 1).ok());
    EXPECT_FALSE(vm().CreateDevice(DeviceKind::kVgicV3).ok());
    EXPECT_FALSE(vm().MakeIrqLine(99).ok());
    EXPECT_FALSE(vm().OpenDirtySource({.kind = DirtyLogWish::kRing, .ring_bytes = 3}).ok());
    EXPECT_FALSE(vm().AddFdMapping(0, 0, kPage, event, 0, Protection::kRead).ok());
    EXPECT_FALSE(vcpu->RestoreState(state).ok());
  };
  refuse_all();
  const size_t descriptors = OpenDescriptors(), mappings = Mappings();
  for (int i = 0; i < 50; ++i) refuse_all();
  EXPECT_EQ(OpenDescriptors(), descriptors);
  EXPECT_LT(Mappings(), mappings + 25) << "fewer than one for two rounds: the allocator's own";
}

// An application processor waits for SIPI for ever: its Run comes back for a kick only.
class WaitingVcpu {
 public:
  explicit WaitingVcpu(Vm& vm) {
    first_ = vm.CreateVcpu(0, 2).value();
    vcpu_ = vm.CreateVcpu(1, 2).value();
    EXPECT_OK(first_->SetUpForBoot({}));
    EXPECT_OK(vcpu_->SetUpForBoot({}));
  }
  Vcpu& operator*() { return *vcpu_; }
  Vcpu* operator->() { return vcpu_.get(); }

 private:
  std::unique_ptr<Vcpu> first_;
  std::unique_ptr<Vcpu> vcpu_;
};

bool RunIsInterrupted(Vcpu& vcpu) {
  const absl::StatusOr<VcpuExit> exit = vcpu.Run();
  EXPECT_OK(exit);
  return exit.ok() && std::holds_alternative<InterruptedExit>(*exit);
}

TEST_P(HypervisorSuite, KickBeforeRun) {
  GiveIrqchip();
  WaitingVcpu vcpu(vm());
  vcpu->Kick();
  EXPECT_TRUE(RunIsInterrupted(*vcpu));
}

TEST_P(HypervisorSuite, KickSurvivesCompleteExit) {
  GiveIrqchip();
  WaitingVcpu vcpu(vm());
  vcpu->Kick();
  EXPECT_TRUE(RunIsInterrupted(*vcpu));
  vcpu->Kick();
  EXPECT_OK(vcpu->CompleteExit());
  EXPECT_TRUE(RunIsInterrupted(*vcpu));
}

// Each round trip needs its kick: a lost one hangs the test, a doubled one lets the counts differ.
TEST_P(HypervisorSuite, TenThousandKicksNoneLostNoneDoubled) {
  constexpr int kKicks = 10'000;
  GiveIrqchip();
  WaitingVcpu vcpu(vm());
  std::atomic<int> returned{0};
  std::thread runner([&] {
    for (int i = 0; i < kKicks; ++i) {
      ASSERT_TRUE(RunIsInterrupted(*vcpu));
      ++returned;
    }
  });
  for (int i = 0; i < kKicks; ++i) {
    ASSERT_EQ(returned.load(), i) << "one Run more than kicks";
    vcpu->Kick();
    while (returned.load() == i) std::this_thread::yield();
  }
  runner.join();
}

TEST_P(HypervisorSuite, KicksFromManyThreads) {
  GiveIrqchip();
  WaitingVcpu vcpu(vm());
  std::atomic<bool> done{false};
  std::vector<std::thread> kickers;
  for (int i = 0; i < 3; ++i)
    kickers.emplace_back([&] {
      while (!done) {
        vcpu->Kick();
        std::this_thread::yield();
      }
    });
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(RunIsInterrupted(*vcpu));
  done = true;
  for (std::thread& kicker : kickers) kicker.join();
}

}  // namespace
}  // namespace drover
