#include "vmm/core/testing/fake_hypervisor.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "vmm/base/status.h"
#include "vmm/core/testing/fake_dirty_source.h"
#include "vmm/core/vm_errors.h"

namespace drover {
namespace {

constexpr uint32_t kPins = 24;
constexpr uint32_t kMaxGsi = 4096;

class FakeIrqLine : public IrqLine {
 public:
  FakeIrqLine(std::shared_ptr<FakeHost> host, uint32_t gsi) : host_(std::move(host)), gsi_(gsi) {}
  void Set(bool high) override { host_->SetIrq(gsi_, high); }

 private:
  const std::shared_ptr<FakeHost> host_;
  const uint32_t gsi_;
};

absl::Status NoIrqchip() {
  return absl::FailedPreconditionError("the VM has no interrupt controller");
}

absl::Status CheckGsi(uint32_t gsi, uint32_t limit) {
  if (gsi < limit) return absl::OkStatus();
  return OutsideRegion(absl::StrCat("global system interrupt ", gsi));
}

// EINVAL for a descriptor that is no eventfd, as the kernel has it.
absl::Status CheckEventFd(const Fd& event) {
  const std::string path = absl::StrCat("/proc/self/fd/", event.get());
  char target[64] = {};
  if (readlink(path.c_str(), target, sizeof(target) - 1) < 0)
    return PosixStatus(EBADF, "eventfd", "");
  if (absl::string_view(target) != "anon_inode:[eventfd]")
    return PosixStatus(EINVAL, "eventfd", target);
  return absl::OkStatus();
}

// As KVM's chips are when they are made, by and large.
IrqchipState PowerOnState(const IrqchipOptions& options) {
  if (options.split) return SplitIrqchipState{};
  PcIrqchipState state;
  state.ioapic.base_address = 0xFEC00000;
  for (IoapicRedirection& redirection : state.ioapic.redirections)
    redirection.bits = IoapicRedirection::kMasked;
  if (options.pit) state.pit.emplace();
  return state;
}

uint64_t LittleEndian(std::span<const uint8_t> data) {
  uint64_t value = 0;
  memcpy(&value, data.data(), std::min<size_t>(data.size(), sizeof(value)));
  return value;
}

}  // namespace

std::shared_ptr<FakeVcpuScript> FakeHost::script(uint32_t id) {
  MutexLock lock(&mutex_);
  std::shared_ptr<FakeVcpuScript>& script = scripts_[id];
  if (script == nullptr) script = std::make_shared<FakeVcpuScript>();
  return script;
}

bool FakeHost::irq_level(uint32_t gsi) const {
  MutexLock lock(&mutex_);
  const auto found = levels_.find(gsi);
  return found != levels_.end() && found->second;
}

int FakeHost::irq_rises(uint32_t gsi) const {
  MutexLock lock(&mutex_);
  const auto found = rises_.find(gsi);
  return found == rises_.end() ? 0 : found->second;
}

int FakeHost::irqchip_resets() const {
  MutexLock lock(&mutex_);
  return resets_;
}

void FakeHost::Fail(const std::string& call, absl::Status status) {
  MutexLock lock(&mutex_);
  failures_[call] = std::move(status);
}

absl::Status FakeHost::FailureOf(const std::string& call) const {
  MutexLock lock(&mutex_);
  const auto found = failures_.find(call);
  return found == failures_.end() ? absl::OkStatus() : found->second;
}

void FakeHost::SetIrq(uint32_t gsi, bool high) {
  MutexLock lock(&mutex_);
  if (high && !levels_[gsi]) ++rises_[gsi];
  levels_[gsi] = high;
}

void FakeHost::NoteIrqchipReset() {
  MutexLock lock(&mutex_);
  ++resets_;
}

FakeHypervisor::FakeHypervisor(BackendCapabilities capabilities)
    : capabilities_(std::move(capabilities)) {}

BackendCapabilities FakeHypervisor::DefaultCapabilities() {
  return {.kind = BackendKind::kFake,
          .max_vcpus = 64,
          .dirty_page_tracking = true,
          .postcopy_restore = true,
          .exposes_vcpu_exits = true,
          .custom_mmio_devices = true,
          .recommended_vcpus = 8,
          .memory_slots = 512,
          .guest_physical_bits = 46,
          .dirty_ring_bytes = 1 << 20,
          .manual_dirty_log_protect = 3,
          .nested_state_bytes = 4224,
          .xsave_bytes = 4096,
          .irqchip = true,
          .immediate_exit = true,
          .irqfd = true,
          .irqfd_resample = true,
          .ioeventfd = true,
          .ioeventfd_any_length = true,
          .read_only_memory = true,
          .tsc_control = true,
          .msr_filter = true,
          .split_irqchip = true,
          .coalesced_io = true,
          .userfaultfd = true,
          .userfaultfd_wp_shmem = true,
          .userfaultfd_minor_shmem = true,
          .userfaultfd_missing_hugetlb = true,
          .userfaultfd_wp_hugetlb = true,
          .userfaultfd_minor_hugetlb = true,
          .hugetlb_2mib = true,
          .kvmclock_realtime = true};
}

absl::StatusOr<std::unique_ptr<Vm>> FakeHypervisor::CreateVm(std::unique_ptr<GuestMemory> memory) {
  if (memory == nullptr) return Malformed("a VM without memory");
  RETURN_IF_ERROR(host_->FailureOf("CreateVm"));
  auto machine = std::make_shared<FakeMachine>(capabilities_, host_, std::move(memory));
  RETURN_IF_ERROR(machine->slots.MapInitialMemory());
  return std::make_unique<FakeVm>(std::move(machine));
}

FakeMachine::FakeMachine(const BackendCapabilities& of, std::shared_ptr<FakeHost> on,
                         std::unique_ptr<GuestMemory> memory)
    : capabilities(of),
      host(std::move(on)),
      slots(std::move(memory), of.memory_slots,
            [this](const SlotMapping& mapping) { return Apply(mapping); }) {}

absl::Status FakeMachine::Apply(const SlotMapping& mapping) {
  RETURN_IF_ERROR(
      CheckPhysicalBits(mapping.range.start, mapping.range.size, capabilities.guest_physical_bits));
  MutexLock lock(&mutex);
  if (mapping.range.size == 0) {
    mapped.erase(mapping.slot);
    dirty.erase(mapping.slot);
    return absl::OkStatus();
  }
  const auto before = mapped.find(mapping.slot);
  const bool logged = before != mapped.end() && before->second.log_dirty_pages;
  mapped[mapping.slot] = mapping;
  if (!mapping.log_dirty_pages) dirty.erase(mapping.slot);
  if (initially_set && mapping.log_dirty_pages && !logged)
    for (uint64_t page = 0; page < mapping.range.size / 4096; ++page)
      dirty[mapping.slot].insert(page);
  return absl::OkStatus();
}

// In a VM with rings a page is noted once until it is reset, in the ring of the vCPU that wrote it.
bool FakeMachine::NoteGuestWrite(uint32_t vcpu, const SlotMapping& mapping, uint64_t first,
                                 uint64_t last) {
  if (!mapping.log_dirty_pages) return true;
  std::set<uint64_t>& noted = dirty[mapping.slot];
  std::vector<RingEntry>& ring = rings[vcpu];
  if (ring_pages != 0 && ring.size() + (last - first + 1) > ring_pages) return false;
  for (uint64_t page = first; page <= last; ++page)
    if (noted.insert(page).second && ring_pages != 0) ring.push_back({mapping.slot, page});
  return true;
}

FakeWrite FakeVm::WriteAsVcpu(uint32_t id, uint64_t address, std::span<const uint8_t> data) {
  MutexLock lock(&machine_->mutex);
  for (const auto& [slot, mapping] : machine_->mapped) {
    if (mapping.read_only || !mapping.range.Contains(address)) continue;
    const uint64_t offset = address - mapping.range.start;
    if (data.size() > mapping.range.size - offset) return FakeWrite::kExit;
    if (!machine_->NoteGuestWrite(id, mapping, offset / 4096, (offset + data.size() - 1) / 4096))
      return FakeWrite::kRingFull;
    memcpy(mapping.host + offset, data.data(), data.size());
    return FakeWrite::kDone;
  }
  return FakeWrite::kExit;
}

bool FakeVm::TouchAsGuest(uint64_t address, std::span<const uint8_t> data) {
  return WriteAsVcpu(0, address, data) == FakeWrite::kDone;
}

absl::StatusOr<std::unique_ptr<Vm>> FakeVm::Clone() { return std::make_unique<FakeVm>(machine_); }

bool FakeVm::CheckCapability(VmCapability capability) const {
  const BackendCapabilities& has = machine_->capabilities;
  switch (capability) {
    case VmCapability::kDirtyLog:
      return has.dirty_page_tracking;
    case VmCapability::kPvClock:
      return true;
    case VmCapability::kReadOnlyMemory:
      return has.read_only_memory;
    case VmCapability::kNoncoherentDma:
    case VmCapability::kBusLockDetect:
      return false;
    case VmCapability::kIrqfd:
      return has.irqfd;
    case VmCapability::kIoeventfd:
      return has.ioeventfd;
    case VmCapability::kSplitIrqchip:
      return has.split_irqchip;
  }
  return false;
}

uint32_t FakeVm::GuestPhysicalBits() const { return machine_->capabilities.guest_physical_bits; }

absl::StatusOr<MemorySlot> FakeVm::AddMemoryRegion(uint64_t address,
                                                   std::unique_ptr<MemoryRegion> region,
                                                   bool read_only, bool log_dirty_pages,
                                                   CacheType cache) {
  if (read_only && !machine_->capabilities.read_only_memory) return Unsupported("read-only memory");
  if (log_dirty_pages && !machine_->capabilities.dirty_page_tracking)
    return Unsupported("dirty page tracking");
  RETURN_IF_ERROR(machine_->host->FailureOf("AddMemoryRegion"));
  return machine_->slots.Add(address, std::move(region), read_only, log_dirty_pages, cache);
}

absl::StatusOr<std::unique_ptr<MemoryRegion>> FakeVm::RemoveMemoryRegion(MemorySlot slot) {
  return machine_->slots.Remove(slot);
}

absl::Status FakeVm::MsyncMemoryRegion(MemorySlot slot, uint64_t offset, uint64_t size) {
  return machine_->slots.Msync(slot, offset, size);
}

absl::Status FakeVm::MadvisePageoutMemoryRegion(MemorySlot slot, uint64_t offset, uint64_t size) {
  return machine_->slots.Madvise(slot, offset, size, MADV_PAGEOUT);
}

absl::Status FakeVm::MadviseRemoveMemoryRegion(MemorySlot slot, uint64_t offset, uint64_t size) {
  return machine_->slots.Madvise(slot, offset, size, MADV_REMOVE);
}

absl::StatusOr<Fd> FakeVm::CreateDevice(DeviceKind) { return Unsupported("an in-kernel device"); }

absl::Status FakeVm::SetDirtyLogging(MemorySlot slot, bool enabled) {
  if (!machine_->capabilities.dirty_page_tracking) return Unsupported("dirty page tracking");
  return machine_->slots.SetDirtyLogging(slot, enabled);
}

absl::Status FakeVm::GetDirtyLog(MemorySlot slot, std::span<uint8_t> bitmap) {
  return machine_->slots.GetDirtyLog(slot, bitmap, [&](MemorySlot s, std::span<uint8_t> words) {
    MutexLock lock(&machine_->mutex);
    std::fill(words.begin(), words.end(), 0);
    for (const uint64_t page : machine_->dirty[s])
      words[page / 8] |= static_cast<uint8_t>(1 << page % 8);
    machine_->dirty[s].clear();
    return absl::OkStatus();
  });
}

absl::StatusOr<std::unique_ptr<DirtySource>> FakeVm::OpenDirtySource(
    const DirtySourceOptions& options) {
  return OpenFakeDirtySource(machine_, options);
}

absl::Status FakeVm::RegisterIoevent(const Fd& event, IoAddress address, Datamatch match) {
  RETURN_IF_ERROR(CheckIoevent(event, address, match));
  RETURN_IF_ERROR(CheckEventFd(event));
  RETURN_IF_ERROR(machine_->host->FailureOf("RegisterIoevent"));
  if (!machine_->capabilities.ioeventfd) return Unsupported("ioeventfd");
  if (match.width == 0 && !machine_->capabilities.ioeventfd_any_length)
    return Unsupported("ioevents of any length");
  MutexLock lock(&machine_->mutex);
  for (const FakeMachine::Ioevent& other : machine_->ioevents)
    if (IoeventsCollide(address, match, other.address, other.match))
      return AlreadyThere(absl::StrFormat("ioevent at %#x", address.address));
  ASSIGN_OR_RETURN(Fd copy, event.Duplicate());
  machine_->ioevents.push_back({std::move(copy), event.get(), address, match});
  return absl::OkStatus();
}

absl::Status FakeVm::UnregisterIoevent(const Fd& event, IoAddress address, Datamatch match) {
  RETURN_IF_ERROR(CheckIoevent(event, address, match));
  MutexLock lock(&machine_->mutex);
  const auto same = [&](const FakeMachine::Ioevent& other) {
    return other.fd == event.get() && other.address == address && other.match == match;
  };
  if (std::erase_if(machine_->ioevents, same) != 0) return absl::OkStatus();
  return PosixStatus(ENOENT, "ioevent", absl::StrFormat("at %#x", address.address));
}

absl::Status FakeVm::HandleIoEvents(IoAddress address, std::span<const uint8_t> data) {
  MutexLock lock(&machine_->mutex);
  for (const FakeMachine::Ioevent& event : machine_->ioevents)
    if (event.address == address &&
        IoeventMatches(event.match, static_cast<uint32_t>(data.size()), LittleEndian(data)) &&
        eventfd_write(event.event.get(), 1) != 0)
      return PosixStatus(errno, "eventfd_write", "");
  return absl::OkStatus();
}

absl::StatusOr<PvClock> FakeVm::GetPvClock() {
  RETURN_IF_ERROR(machine_->host->FailureOf("GetPvClock"));
  MutexLock lock(&machine_->mutex);
  return machine_->clock;
}

absl::Status FakeVm::SetPvClock(const PvClock& clock) {
  if (clock.realtime_nanos && !machine_->capabilities.kvmclock_realtime)
    return Unsupported("KVM_CLOCK_REALTIME");
  RETURN_IF_ERROR(machine_->host->FailureOf("SetPvClock"));
  MutexLock lock(&machine_->mutex);
  machine_->clock = clock;
  return absl::OkStatus();
}

absl::Status FakeVm::AddFdMapping(MemorySlot slot, uint64_t offset, uint64_t size, const Fd& fd,
                                  uint64_t fd_offset, Protection protection) {
  return machine_->slots.AddFdMapping(slot, offset, size, fd, fd_offset, protection);
}

absl::Status FakeVm::RemoveMapping(MemorySlot slot, uint64_t offset, uint64_t size) {
  return machine_->slots.RemoveMapping(slot, offset, size);
}

absl::Status FakeVm::HandleBalloonEvent(const BalloonEvent& event) {
  return ApplyBalloonEvent(event, &memory());
}

absl::StatusOr<bool> FakeVm::EnableCapability(VmCapability capability, uint32_t flags) {
  if (flags != 0) return Malformed(absl::StrFormat("capability flags %#x: none is known", flags));
  if (!CheckCapability(capability)) return false;
  if (capability != VmCapability::kSplitIrqchip) return true;
  RETURN_IF_ERROR(CreateIrqchip({.pit = false, .split = true}));
  return true;
}

absl::Status FakeVm::CreateIrqchip(const IrqchipOptions& options) {
  if (!machine_->capabilities.irqchip) return Unsupported("irqchip");
  if (options.split && options.pit)
    return Malformed("a PIT needs the PIC in the kernel: not split");
  MutexLock lock(&machine_->mutex);
  if (machine_->irqchip) return AlreadyThere("the VM has an interrupt controller");
  if (!machine_->vcpus.empty()) return Malformed("the VM has vCPUs already");
  if (options.split && !machine_->capabilities.split_irqchip) return Unsupported("split irqchip");
  RETURN_IF_ERROR(machine_->host->FailureOf("CreateIrqchip"));
  machine_->irqchip = true;
  machine_->irqchip_options = options;
  machine_->irqchip_state = PowerOnState(options);
  if (!options.split) machine_->routes = IrqRoutes::Pc();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Vcpu>> FakeVm::CreateVcpu(uint32_t id, uint32_t vcpu_count) {
  if (vcpu_count > machine_->capabilities.max_vcpus || id >= vcpu_count)
    return Malformed(absl::StrFormat("vCPU %u of %u: the host allows %u", id, vcpu_count,
                                     machine_->capabilities.max_vcpus));
  RETURN_IF_ERROR(machine_->host->FailureOf("CreateVcpu"));
  MutexLock lock(&machine_->mutex);
  if (!machine_->vcpus.insert(id).second) return AlreadyThere(absl::StrFormat("vCPU %u", id));
  return std::make_unique<FakeVcpu>(
      id, machine_->host->script(id), machine_->capabilities, machine_->irqchip,
      [host = machine_->host](const char* call) { return host->FailureOf(call); });
}

absl::StatusOr<std::unique_ptr<IrqLine>> FakeVm::MakeIrqLine(uint32_t gsi) {
  RETURN_IF_ERROR(CheckGsi(gsi, kPins));
  RETURN_IF_ERROR(machine_->host->FailureOf("MakeIrqLine"));
  MutexLock lock(&machine_->mutex);
  if (!machine_->irqchip || machine_->irqchip_options.split) return NoIrqchip();
  return std::make_unique<FakeIrqLine>(machine_->host, gsi);
}

absl::Status FakeVm::RegisterIrqfd(const Fd& event, uint32_t gsi, const Fd* resample) {
  if (!event.valid() || (resample != nullptr && !resample->valid()))
    return Malformed("irqfd without an eventfd");
  RETURN_IF_ERROR(CheckGsi(gsi, kMaxGsi));
  RETURN_IF_ERROR(machine_->host->FailureOf("RegisterIrqfd"));
  MutexLock lock(&machine_->mutex);
  if (!machine_->irqchip) return NoIrqchip();
  if (!machine_->capabilities.irqfd) return Unsupported("irqfd");
  if (resample != nullptr && !machine_->capabilities.irqfd_resample)
    return Unsupported("irqfd with resample");
  RETURN_IF_ERROR(CheckEventFd(event));
  if (resample != nullptr) RETURN_IF_ERROR(CheckEventFd(*resample));
  if (!machine_->irqfds.insert({event.get(), gsi}).second)
    return AlreadyThere(absl::StrFormat("irqfd %d", event.get()));
  return absl::OkStatus();
}

absl::Status FakeVm::UnregisterIrqfd(const Fd& event, uint32_t gsi) {
  if (!event.valid()) return Malformed("irqfd without an eventfd");
  RETURN_IF_ERROR(CheckGsi(gsi, kMaxGsi));
  MutexLock lock(&machine_->mutex);
  if (!machine_->irqchip) return NoIrqchip();
  const auto found = machine_->irqfds.find(event.get());
  if (found != machine_->irqfds.end() && found->second == gsi) machine_->irqfds.erase(found);
  return absl::OkStatus();
}

absl::Status FakeVm::SetIrqRoutes(const IrqRoutes& routes) {
  MutexLock lock(&machine_->mutex);
  if (!machine_->irqchip) return NoIrqchip();
  if (machine_->irqchip_options.split && routes.has_pins())
    return Malformed("routes to pins of a split irqchip");
  RETURN_IF_ERROR(machine_->host->FailureOf("SetIrqRoutes"));
  machine_->routes = routes;
  return absl::OkStatus();
}

absl::StatusOr<IrqchipState> FakeVm::SaveIrqchip() {
  MutexLock lock(&machine_->mutex);
  if (!machine_->irqchip) return NoIrqchip();
  RETURN_IF_ERROR(machine_->host->FailureOf("SaveIrqchip"));
  return machine_->irqchip_state;
}

absl::Status FakeVm::RestoreIrqchip(const IrqchipState& state) {
  MutexLock lock(&machine_->mutex);
  if (!machine_->irqchip) return NoIrqchip();
  const IrqchipOptions options = machine_->irqchip_options;
  RETURN_IF_ERROR(CheckIrqchipState(state, options.split, options.pit));
  RETURN_IF_ERROR(machine_->host->FailureOf("RestoreIrqchip"));
  machine_->irqchip_state = state;
  return absl::OkStatus();
}

absl::Status FakeVm::ResetIrqchip() {
  MutexLock lock(&machine_->mutex);
  if (!machine_->irqchip) return NoIrqchip();
  RETURN_IF_ERROR(machine_->host->FailureOf("ResetIrqchip"));
  machine_->irqchip_state = PowerOnState(machine_->irqchip_options);
  machine_->host->NoteIrqchipReset();
  return absl::OkStatus();
}

}  // namespace drover
