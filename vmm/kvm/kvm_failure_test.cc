// A host that withdraws what it offered when it was probed: each of KVM's calls fails once, on real
// KVM. The error names the call and has its errno, nothing has changed, and nothing is leaked.
#include <dirent.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/kvm.h>

#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include "vmm/base/status_matchers.h"
#include "vmm/core/dirty_log.h"
#include "vmm/core/memory_slots.h"
#include "vmm/kvm/testing/failing_ioctl.h"
#include "vmm/kvm/testing/kvm_for_test.h"
#include "vmm/kvm/testing/mini_guest.h"
#include "vmm/kvm/testing/writer_guest.h"

namespace drover {
namespace {

using absl::StatusCode;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kRam = 1 << 20;
constexpr uint64_t kCode = 0x1000;

#define CALL(name) #name, name

auto PreconditionError() { return StatusIs(StatusCode::kFailedPrecondition); }

// What `use` answers while that call fails with EIO.
absl::Status Without(unsigned long request, const std::function<absl::Status()>& use) {
  absl::Status status;
  WithFailingIoctl(request, EIO, [&] { status = use(); });
  return status;
}

int OpenDescriptors() {
  int count = 0;
  DIR* const directory = opendir("/proc/self/fd");
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

// Equal but for the time, and for whether a part of XSAVE is in use or in its initial state.
std::string DifferenceOfState(VcpuState a, VcpuState b) {
  for (VcpuState* state : {&a, &b}) {
    state->tsc = {};
    state->xsave.clear();
  }
  return Difference(a, b);
}

// Without the orders that the VMM gave the guest.
std::vector<GuestRange> WrittenByGuest(const PageSet& pages) {
  std::vector<GuestRange> ranges = pages.Ranges();
  std::erase_if(ranges,
                [](const GuestRange& range) { return range.start < GuestWriter::kReserved; });
  return ranges;
}

class KvmFailure : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<KvmHypervisor>> opened = OpenKvmForTest();
    if (absl::IsUnavailable(opened.status())) GTEST_SKIP() << "SKIPPED: " << opened.status();
    ASSERT_OK(opened);
    hypervisor_ = *std::move(opened);
    MakeVm();
  }

  void MakeVm() {
    vcpu_.reset();
    ASSERT_OK_AND_ASSIGN(vm_, hypervisor_->CreateVm(GuestMemory::Create({{0, kRam}}).value()));
  }

  // Another VM with an irqchip and a vCPU that is not set up.
  void MakeVcpu() {
    MakeVm();
    ASSERT_OK(vm_->CreateIrqchip({}));
    ASSERT_OK(vm_->memory().Write(kCode, MiniGuest().OutAl(2).JumpBack(2).code()));
    ASSERT_OK_AND_ASSIGN(vcpu_, vm_->CreateVcpu(0, 1));
  }
  absl::Status Boot() { return vcpu_->SetUpForBoot({.rip = kCode, .rsp = 0x8000}); }

  void ExpectMixture(const char* why) {
    EXPECT_THAT(vcpu_->Run(), PreconditionError()) << why;
    EXPECT_THAT(vcpu_->SaveState(), PreconditionError()) << why;
  }
  void ExpectRuns(const char* why) {
    const absl::StatusOr<VcpuExit> exit = vcpu_->Run();
    ASSERT_OK(exit) << why;
    EXPECT_TRUE(std::holds_alternative<PortExit>(*exit)) << why;
  }

  absl::StatusOr<MemorySlot> AddPage(bool log_dirty = false) {
    return vm_->AddMemoryRegion(2 * kRam, PlainRegion::Anonymous(kPage).value(), false, log_dirty,
                                CacheType::kCoherent);
  }

  std::unique_ptr<KvmHypervisor> hypervisor_;
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<Vcpu> vcpu_;
};

struct Call {
  const char* name;
  unsigned long request;
};

TEST_F(KvmFailure, ARestoreThatFailsMidwayNamesItsStepAndTheVcpuDoesNotRun) {
  const struct {
    const char* step;
    Call call;
  } steps[] = {{"CPUID", {CALL(KVM_SET_CPUID2)}},        {"TSC", {CALL(KVM_SET_DEVICE_ATTR)}},
               {"SREGS", {CALL(KVM_SET_SREGS2)}},        {"SREGS", {CALL(KVM_SET_SREGS)}},
               {"XCRS", {CALL(KVM_SET_XCRS)}},           {"XSAVE", {CALL(KVM_SET_XSAVE)}},
               {"DEBUGREGS", {CALL(KVM_SET_DEBUGREGS)}}, {"LAPIC", {CALL(KVM_SET_LAPIC)}},
               {"MSRS", {CALL(KVM_SET_MSRS)}},           {"REGS", {CALL(KVM_SET_REGS)}},
               {"NESTED", {CALL(KVM_SET_NESTED_STATE)}}, {"EVENTS", {CALL(KVM_SET_VCPU_EVENTS)}},
               {"MP_STATE", {CALL(KVM_SET_MP_STATE)}}};
  MakeVcpu();
  ASSERT_OK(Boot());
  ExpectRuns("the first time");
  ASSERT_OK_AND_ASSIGN(const VcpuState good, vcpu_->SaveState());
  int failed = 0;
  for (const auto& [step, call] : steps) {
    const absl::Status status = Without(call.request, [&] { return vcpu_->RestoreState(good); });
    if (status.ok()) continue;  // this host has no such part
    ++failed;
    EXPECT_THAT(status, HasErrno(EIO)) << step;
    EXPECT_THAT(std::string(status.message()), HasSubstr(step));
    EXPECT_THAT(std::string(status.message()), HasSubstr(call.name));
    EXPECT_THAT(std::string(status.message()), HasSubstr("vCPU 0"));
    ExpectMixture(step);
    ASSERT_OK(vcpu_->RestoreState(good)) << step;
    ASSERT_OK_AND_ASSIGN(const VcpuState now, vcpu_->SaveState());
    EXPECT_EQ(DifferenceOfState(now, good), "") << step;
    ExpectRuns(step);
    ASSERT_OK(vcpu_->RestoreState(good));
  }
  EXPECT_GE(failed, 9);
}

TEST_F(KvmFailure, AHostThatRefusesAPartOfTheStateLeavesAMixture) {
  MakeVcpu();
  ASSERT_OK(Boot());
  ASSERT_OK_AND_ASSIGN(const VcpuState good, vcpu_->SaveState());
  VcpuState bad = good;
  bad.sregs.cr4 = uint64_t{1} << 60;
  EXPECT_THAT(vcpu_->RestoreState(bad),
              testing::AllOf(HasErrno(EINVAL),
                             StatusIs(StatusCode::kInvalidArgument, HasSubstr("vCPU 0 SREGS"))));
  ExpectMixture("cr4");
  ASSERT_OK(vcpu_->RestoreState(good));
  ExpectRuns("a good state");
}

TEST_F(KvmFailure, ASaveThatFailsChangesNothing) {
  const Call calls[] = {
      {CALL(KVM_GET_CPUID2)},      {CALL(KVM_GET_DEVICE_ATTR)}, {CALL(KVM_GET_SREGS2)},
      {CALL(KVM_GET_SREGS)},       {CALL(KVM_GET_XCRS)},        {CALL(KVM_GET_XSAVE2)},
      {CALL(KVM_GET_XSAVE)},       {CALL(KVM_GET_DEBUGREGS)},   {CALL(KVM_GET_LAPIC)},
      {CALL(KVM_GET_MSRS)},        {CALL(KVM_GET_REGS)},        {CALL(KVM_GET_NESTED_STATE)},
      {CALL(KVM_GET_VCPU_EVENTS)}, {CALL(KVM_GET_MP_STATE)}};
  MakeVcpu();
  ASSERT_OK(Boot());
  ASSERT_OK_AND_ASSIGN(const VcpuState before, vcpu_->SaveState());
  int failed = 0;
  for (const Call& call : calls) {
    const absl::Status status = Without(call.request, [&] { return vcpu_->SaveState().status(); });
    if (status.ok()) continue;
    ++failed;
    EXPECT_THAT(status, HasErrno(EIO));
    EXPECT_THAT(std::string(status.message()), HasSubstr(call.name));
    ASSERT_OK_AND_ASSIGN(const VcpuState now, vcpu_->SaveState());
    EXPECT_EQ(DifferenceOfState(now, before), "") << call.name;
  }
  EXPECT_GE(failed, 9);
}

TEST_F(KvmFailure, AVcpuThatWasNotSetUpToTheEndDoesNotRun) {
  MakeVcpu();
  ASSERT_OK(Boot());
  ASSERT_OK_AND_ASSIGN(const VcpuState booted, vcpu_->SaveState());
  for (const Call& call :
       {Call{CALL(KVM_SET_CPUID2)}, Call{CALL(KVM_GET_REGS)}, Call{CALL(KVM_GET_SREGS)},
        Call{CALL(KVM_GET_LAPIC)}, Call{CALL(KVM_SET_SREGS)}, Call{CALL(KVM_SET_REGS)},
        Call{CALL(KVM_SET_LAPIC)}, Call{CALL(KVM_SET_MSRS)}}) {
    MakeVcpu();
    const absl::Status status = Without(call.request, [&] { return Boot(); });
    EXPECT_THAT(status, HasErrno(EIO)) << call.name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(call.name));
    EXPECT_THAT(vcpu_->Run(), PreconditionError()) << call.name;
    ASSERT_OK(Boot()) << call.name;
    ASSERT_OK_AND_ASSIGN(const VcpuState now, vcpu_->SaveState());
    EXPECT_EQ(DifferenceOfState(now, booted), "") << call.name;
    ExpectRuns(call.name);
  }
}

TEST_F(KvmFailure, ARunThatFails) {
  MakeVcpu();
  ASSERT_OK(Boot());
  ExpectRuns("before");
  for (const auto& use : std::vector<std::function<absl::Status()>>{
           [&] { return vcpu_->Run().status(); }, [&] { return vcpu_->CompleteExit(); },
           [&] { return vcpu_->SaveState().status(); }}) {
    const absl::Status status = Without(KVM_RUN, use);
    EXPECT_THAT(status, HasErrno(EIO));
    EXPECT_THAT(std::string(status.message()), HasSubstr("vCPU 0"));
  }
  ExpectRuns("after");
}

// Fails, changes nothing, and succeeds when the call is there again.
TEST_F(KvmFailure, CallsOfAVm) {
  MakeVcpu();
  ASSERT_OK(Boot());
  ASSERT_OK_AND_ASSIGN(const IrqchipState chips, vm_->SaveIrqchip());
  ASSERT_OK_AND_ASSIGN(const PvClock clock, vm_->GetPvClock());
  const PvClock same_clock = {.nanos = clock.nanos};
  const Fd event = MakeEventFd().value();
  std::vector<uint8_t> bitmap(32);
  const struct {
    Call call;
    std::function<absl::Status()> use;
  } cases[] = {
      {{CALL(KVM_IRQFD)}, [&] { return vm_->RegisterIrqfd(event, 4, nullptr); }},
      {{CALL(KVM_IRQFD)}, [&] { return vm_->UnregisterIrqfd(event, 4); }},
      {{CALL(KVM_IOEVENTFD)},
       [&] {
         return vm_->RegisterIoevent(event, {IoAddress::Space::kPort, 5}, {.width = 1});
       }},
      {{CALL(KVM_IOEVENTFD)},
       [&] {
         return vm_->UnregisterIoevent(event, {IoAddress::Space::kPort, 5}, {.width = 1});
       }},
      {{CALL(KVM_GET_CLOCK)}, [&] { return vm_->GetPvClock().status(); }},
      {{CALL(KVM_SET_CLOCK)}, [&] { return vm_->SetPvClock(same_clock); }},
      {{CALL(KVM_SET_GSI_ROUTING)}, [&] { return vm_->SetIrqRoutes(IrqRoutes::Pc()); }},
      {{CALL(KVM_GET_IRQCHIP)}, [&] { return vm_->SaveIrqchip().status(); }},
      {{CALL(KVM_GET_PIT2)}, [&] { return vm_->SaveIrqchip().status(); }},
      {{CALL(KVM_SET_IRQCHIP)}, [&] { return vm_->RestoreIrqchip(chips); }},
      {{CALL(KVM_SET_PIT2)}, [&] { return vm_->RestoreIrqchip(chips); }},
      {{CALL(KVM_SET_IRQCHIP)}, [&] { return vm_->ResetIrqchip(); }},
      {{CALL(KVM_SET_USER_MEMORY_REGION)}, [&] { return AddPage().status(); }},
      {{CALL(KVM_SET_USER_MEMORY_REGION)}, [&] { return vm_->SetDirtyLogging(1, true); }},
      {{CALL(KVM_GET_DIRTY_LOG)}, [&] { return vm_->GetDirtyLog(1, bitmap); }},
      {{CALL(KVM_SET_USER_MEMORY_REGION)}, [&] { return vm_->SetDirtyLogging(1, false); }},
      {{CALL(KVM_SET_USER_MEMORY_REGION)}, [&] { return vm_->RemoveMemoryRegion(1).status(); }},
      {{CALL(KVM_GET_MSRS)}, [&] { return vcpu_->GetMsr(0x277).status(); }},
      {{CALL(KVM_SET_MSRS)}, [&] { return vcpu_->SetMsr(0x175, 1); }},
  };
  for (const auto& [call, use] : cases) {
    const int descriptors = OpenDescriptors();
    const absl::Status status = Without(call.request, use);
    EXPECT_THAT(status, HasErrno(EIO)) << call.name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(call.name));
    EXPECT_EQ(OpenDescriptors(), descriptors) << call.name;
    EXPECT_OK(use()) << call.name;
  }
}

TEST_F(KvmFailure, AVmThatCannotBeMadeLeavesNothing) {
  for (const Call& call : {Call{CALL(KVM_CREATE_VM)}, Call{CALL(KVM_SET_IDENTITY_MAP_ADDR)},
                           Call{CALL(KVM_SET_TSS_ADDR)}, Call{CALL(KVM_SET_USER_MEMORY_REGION)}}) {
    const int descriptors = OpenDescriptors();
    const absl::Status status = Without(call.request, [&] {
      return hypervisor_->CreateVm(GuestMemory::Create({{0, kRam}}).value()).status();
    });
    EXPECT_THAT(status, HasErrno(EIO)) << call.name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(call.name));
    EXPECT_EQ(OpenDescriptors(), descriptors) << call.name;
  }
}

TEST_F(KvmFailure, AHypervisorThatCannotBeOpened) {
  for (const Call& call : {Call{CALL(KVM_GET_API_VERSION)}, Call{CALL(KVM_GET_VCPU_MMAP_SIZE)}}) {
    const absl::Status status = Without(call.request, [] { return OpenKvmForTest().status(); });
    EXPECT_THAT(status, HasErrno(EIO));
    EXPECT_THAT(std::string(status.message()), HasSubstr(call.name));
  }
  EXPECT_THAT(Without(KVM_CHECK_EXTENSION, [] { return OpenKvmForTest().status(); }),
              StatusIs(StatusCode::kUnimplemented, HasSubstr("KVM_CAP_IMMEDIATE_EXIT")));
}

TEST_F(KvmFailure, AVcpuThatCannotBeMadeLeavesItsNumber) {
  ASSERT_OK(vm_->CreateIrqchip({}));
  const int descriptors = OpenDescriptors();
  const absl::Status status =
      Without(KVM_CREATE_VCPU, [&] { return vm_->CreateVcpu(0, 1).status(); });
  EXPECT_THAT(status, HasErrno(EIO));
  EXPECT_THAT(std::string(status.message()), HasSubstr("KVM_CREATE_VCPU"));
  EXPECT_EQ(OpenDescriptors(), descriptors);
  EXPECT_OK(vm_->CreateVcpu(0, 1));
}

TEST_F(KvmFailure, AnIrqchipThatCannotBeMadeCanBeMadeLater) {
  for (const Call& call : {Call{CALL(KVM_CREATE_IRQCHIP)}, Call{CALL(KVM_GET_IRQCHIP)},
                           Call{CALL(KVM_CREATE_PIT2)}, Call{CALL(KVM_GET_PIT2)}}) {
    MakeVm();
    const absl::Status status = Without(call.request, [&] { return vm_->CreateIrqchip({}); });
    EXPECT_THAT(status, HasErrno(EIO)) << call.name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(call.name));
    EXPECT_THAT(vm_->SaveIrqchip(), PreconditionError()) << call.name;
    ASSERT_OK(vm_->CreateIrqchip({})) << call.name;
    ASSERT_OK_AND_ASSIGN(const IrqchipState state, vm_->SaveIrqchip());
    EXPECT_TRUE(std::get<PcIrqchipState>(state).pit.has_value()) << call.name;
  }
  if (!hypervisor_->capabilities().split_irqchip) return;
  MakeVm();
  const auto split = [&] { return vm_->CreateIrqchip({.pit = false, .split = true}); };
  EXPECT_THAT(Without(KVM_ENABLE_CAP, split), HasErrno(EIO));
  EXPECT_OK(split());
}

TEST_F(KvmFailure, ARingOrProtectionThatIsRefusedFallsBack) {
  if (hypervisor_->capabilities().dirty_ring_bytes == 0)
    GTEST_SKIP() << "SKIPPED: this host has no dirty ring";
  std::unique_ptr<DirtyLog> log;
  EXPECT_OK(Without(KVM_ENABLE_CAP, [&]() -> absl::Status {
    ASSIGN_OR_RETURN(log, DirtyLog::Create({.vm = vm_.get(), .source = {DirtyLogWish::kRing}}));
    return absl::OkStatus();
  }));
  ASSERT_NE(log, nullptr);
  EXPECT_EQ(log->choice(), (DirtyLogChoice{.kind = DirtyLogKind::kBitmap,
                                           .reason = DirtyLogReason::kRingRefused,
                                           .manual_protect = false}));
  ASSERT_OK(log->Start());
  PageSet pages;
  EXPECT_OK(log->Harvest(&pages));
}

TEST_F(KvmFailure, AHarvestThatFailsLosesNoPage) {
  const struct {
    DirtyLogWish wish;
    Call call;
  } cases[] = {{DirtyLogWish::kBitmap, {CALL(KVM_GET_DIRTY_LOG)}},
               {DirtyLogWish::kBitmap, {CALL(KVM_CLEAR_DIRTY_LOG)}},
               {DirtyLogWish::kRing, {CALL(KVM_RESET_DIRTY_RINGS)}}};
  const BackendCapabilities& host = hypervisor_->capabilities();
  for (const auto& [wish, call] : cases) {
    if (wish == DirtyLogWish::kRing && host.dirty_ring_bytes == 0) continue;
    if (call.request == KVM_CLEAR_DIRTY_LOG && host.manual_dirty_log_protect == 0) continue;
    MakeVm();
    ASSERT_OK_AND_ASSIGN(const auto log,
                         DirtyLog::Create({.vm = vm_.get(), .source = {.kind = wish}}));
    ASSERT_OK_AND_ASSIGN(const auto guest, WriterGuest::Create(*vm_));
    ASSERT_OK(log->Start());
    const uint64_t addresses[] = {0x50000, 0x70000};
    ASSERT_OK(guest->Write(addresses, 1, log.get()));
    PageSet pages;
    const absl::Status status = Without(call.request, [&] { return log->Harvest(&pages); });
    EXPECT_THAT(status, HasErrno(EIO)) << call.name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(call.name));
    ASSERT_OK(log->Harvest(&pages));
    EXPECT_THAT(WrittenByGuest(pages),
                ElementsAre(GuestRange{0x50000, kPage}, GuestRange{0x70000, kPage}))
        << call.name;
    ASSERT_OK(guest->Write(addresses, 2, log.get()));
    PageSet again;
    ASSERT_OK(log->Harvest(&again));
    EXPECT_THAT(WrittenByGuest(again),
                ElementsAre(GuestRange{0x50000, kPage}, GuestRange{0x70000, kPage}))
        << call.name << ": watched again";
  }
}

TEST_F(KvmFailure, ALogThatCannotStartLeavesNothingLogging) {
  ASSERT_OK_AND_ASSIGN(
      const auto log,
      DirtyLog::Create({.vm = vm_.get(), .source = {.kind = DirtyLogWish::kBitmap}}));
  EXPECT_THAT(Without(KVM_SET_USER_MEMORY_REGION, [&] { return log->Start(); }), HasErrno(EIO));
  PageSet pages;
  EXPECT_THAT(log->Harvest(&pages), PreconditionError());
  EXPECT_OK(log->Start());
  EXPECT_OK(log->Harvest(&pages));
}

}  // namespace
}  // namespace drover
