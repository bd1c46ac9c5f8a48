#include "vmm/kvm/kvm_vm.h"

#include <sys/mman.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "vmm/base/log.h"
#include "vmm/core/balloon.h"
#include "vmm/core/vm_errors.h"
#include "vmm/kvm/dirty_ring_source.h"
#include "vmm/kvm/kvm_ioctl.h"
#include "vmm/kvm/kvm_vcpu.h"

namespace drover {
namespace {

constexpr uint32_t kMaxGsi = 4096;  // KVM_MAX_IRQ_ROUTES

// A pin of the in-kernel controllers.
class KvmIrqLine : public IrqLine {
 public:
  KvmIrqLine(std::shared_ptr<KvmMachine> machine, uint32_t gsi)
      : machine_(std::move(machine)), gsi_(gsi) {}

  void Set(bool high) override {
    struct kvm_irq_level level = {.irq = gsi_, .level = high ? 1u : 0u};
    const absl::Status status = KvmIoctl(machine_->vm.get(), KVM_IRQ_LINE, &level, "KVM_IRQ_LINE");
    if (!status.ok()) Log(LogLevel::kError, "interrupt lost", {{"error", status.ToString()}});
  }

 private:
  const std::shared_ptr<KvmMachine> machine_;
  const uint32_t gsi_;
};

absl::Status NoIrqchip() {
  return absl::FailedPreconditionError("the VM has no interrupt controller");
}

absl::Status CheckGsi(uint32_t gsi, uint32_t limit) {
  if (gsi < limit) return absl::OkStatus();
  return OutsideRegion(absl::StrCat("global system interrupt ", gsi));
}

// As Vm's rule for errors has it, where KVM has another errno.
absl::Status WithErrno(const absl::Status& status, int from,
                       absl::Status (*to)(absl::string_view)) {
  if (PosixErrno(status) != std::optional<int>(from)) return status;
  return to(status.message());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Vm>> KvmVm::Clone() { return std::make_unique<KvmVm>(machine_); }

bool KvmVm::Has(int extension) const { return KvmExtension(fd(), extension) != 0; }

bool KvmVm::CheckCapability(VmCapability capability) const {
  const BackendCapabilities& host = machine_->host->capabilities();
  switch (capability) {
    case VmCapability::kDirtyLog:
      return host.dirty_page_tracking;
    case VmCapability::kPvClock:
      return Has(KVM_CAP_ADJUST_CLOCK);
    case VmCapability::kReadOnlyMemory:
      return host.read_only_memory && Has(KVM_CAP_READONLY_MEM);
    case VmCapability::kNoncoherentDma:
      return false;  // KVM finds out by itself from its VFIO device
    case VmCapability::kBusLockDetect:
      return (KvmExtension(fd(), KVM_CAP_X86_BUS_LOCK_EXIT) & KVM_BUS_LOCK_DETECTION_EXIT) != 0;
    case VmCapability::kIrqfd:
      return host.irqfd && Has(KVM_CAP_IRQFD);
    case VmCapability::kIoeventfd:
      return host.ioeventfd && Has(KVM_CAP_IOEVENTFD);
    case VmCapability::kSplitIrqchip:
      return host.split_irqchip && Has(KVM_CAP_SPLIT_IRQCHIP);
  }
  return false;
}

uint32_t KvmVm::GuestPhysicalBits() const {
  return machine_->host->capabilities().guest_physical_bits;
}

absl::StatusOr<MemorySlot> KvmVm::AddMemoryRegion(uint64_t address,
                                                  std::unique_ptr<MemoryRegion> region,
                                                  bool read_only, bool log_dirty_pages,
                                                  CacheType cache) {
  if (read_only && !machine_->host->capabilities().read_only_memory)
    return Unsupported("read-only memory");
  if (log_dirty_pages && !machine_->host->capabilities().dirty_page_tracking)
    return Unsupported("dirty page tracking");
  return machine_->slots.Add(address, std::move(region), read_only, log_dirty_pages, cache);
}

absl::StatusOr<std::unique_ptr<MemoryRegion>> KvmVm::RemoveMemoryRegion(MemorySlot slot) {
  return machine_->slots.Remove(slot);
}

absl::Status KvmVm::MsyncMemoryRegion(MemorySlot slot, uint64_t offset, uint64_t size) {
  return machine_->slots.Msync(slot, offset, size);
}

absl::Status KvmVm::MadvisePageoutMemoryRegion(MemorySlot slot, uint64_t offset, uint64_t size) {
  return machine_->slots.Madvise(slot, offset, size, MADV_PAGEOUT);
}

absl::Status KvmVm::MadviseRemoveMemoryRegion(MemorySlot slot, uint64_t offset, uint64_t size) {
  return machine_->slots.Madvise(slot, offset, size, MADV_REMOVE);
}

absl::StatusOr<Fd> KvmVm::CreateDevice(DeviceKind kind) {
  if (kind != DeviceKind::kVfio) return Unsupported("an arm64 interrupt controller");
  struct kvm_create_device device = {.type = KVM_DEV_TYPE_VFIO};
  const absl::Status status =
      KvmIoctl(fd(), KVM_CREATE_DEVICE, &device, "KVM_CREATE_DEVICE", "VFIO");
  RETURN_IF_ERROR(WithErrno(status, ENODEV, Unsupported));
  return Fd(static_cast<int>(device.fd));
}

absl::Status KvmVm::SetDirtyLogging(MemorySlot slot, bool enabled) {
  if (!machine_->host->capabilities().dirty_page_tracking)
    return Unsupported("dirty page tracking");
  return machine_->slots.SetDirtyLogging(slot, enabled);
}

absl::Status KvmVm::GetDirtyLog(MemorySlot slot, std::span<uint8_t> bitmap) {
  return machine_->slots.GetDirtyLog(slot, bitmap, [&](MemorySlot s, std::span<uint8_t> words) {
    struct kvm_dirty_log log = {.slot = s};
    log.dirty_bitmap = words.data();
    return KvmIoctl(fd(), KVM_GET_DIRTY_LOG, &log, "KVM_GET_DIRTY_LOG");
  });
}

absl::StatusOr<std::unique_ptr<DirtySource>> KvmVm::OpenDirtySource(
    const DirtySourceOptions& options) {
  return OpenKvmDirtySource(machine_, options);
}

absl::Status KvmVm::SetIoevent(const Fd& event, IoAddress address, Datamatch match,
                               uint32_t flags) {
  RETURN_IF_ERROR(CheckIoevent(event, address, match));
  if (!machine_->host->capabilities().ioeventfd) return Unsupported("ioeventfd");
  if (match.width == 0 && !machine_->host->capabilities().ioeventfd_any_length)
    return Unsupported("ioevents of any length");
  if (address.space == IoAddress::Space::kPort) flags |= KVM_IOEVENTFD_FLAG_PIO;
  if (match.value) flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
  struct kvm_ioeventfd request = {.datamatch = match.value.value_or(0),
                                  .addr = address.address,
                                  .len = match.width,
                                  .fd = event.get(),
                                  .flags = flags};
  return KvmIoctl(fd(), KVM_IOEVENTFD, &request, "KVM_IOEVENTFD",
                  absl::StrFormat("at %#x", address.address));
}

absl::Status KvmVm::RegisterIoevent(const Fd& event, IoAddress address, Datamatch match) {
  return SetIoevent(event, address, match, 0);
}

absl::Status KvmVm::UnregisterIoevent(const Fd& event, IoAddress address, Datamatch match) {
  return SetIoevent(event, address, match, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

absl::Status KvmVm::HandleIoEvents(IoAddress, std::span<const uint8_t>) { return absl::OkStatus(); }

absl::StatusOr<PvClock> KvmVm::GetPvClock() {
  struct kvm_clock_data data = {};
  RETURN_IF_ERROR(KvmIoctl(fd(), KVM_GET_CLOCK, &data, "KVM_GET_CLOCK"));
  PvClock clock = {.nanos = data.clock};
  const bool realtime = machine_->host->capabilities().kvmclock_realtime;
  if (realtime && (data.flags & KVM_CLOCK_REALTIME)) clock.realtime_nanos = data.realtime;
  if (data.flags & KVM_CLOCK_HOST_TSC) clock.host_tsc = data.host_tsc;
  return clock;
}

absl::Status KvmVm::SetPvClock(const PvClock& clock) {
  if (clock.realtime_nanos && !machine_->host->capabilities().kvmclock_realtime)
    return Unsupported("KVM_CLOCK_REALTIME");
  struct kvm_clock_data data = {.clock = clock.nanos};
  if (clock.realtime_nanos) {
    data.flags = KVM_CLOCK_REALTIME;
    data.realtime = *clock.realtime_nanos;
  }
  return KvmIoctl(fd(), KVM_SET_CLOCK, &data, "KVM_SET_CLOCK");
}

absl::Status KvmVm::AddFdMapping(MemorySlot slot, uint64_t offset, uint64_t size, const Fd& file,
                                 uint64_t fd_offset, Protection protection) {
  return machine_->slots.AddFdMapping(slot, offset, size, file, fd_offset, protection);
}

absl::Status KvmVm::RemoveMapping(MemorySlot slot, uint64_t offset, uint64_t size) {
  return machine_->slots.RemoveMapping(slot, offset, size);
}

absl::Status KvmVm::HandleBalloonEvent(const BalloonEvent& event) {
  return ApplyBalloonEvent(event, &memory());
}

absl::StatusOr<bool> KvmVm::EnableBusLockDetect() {
  struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_BUS_LOCK_EXIT,
                               .args = {KVM_BUS_LOCK_DETECTION_EXIT}};
  RETURN_IF_ERROR(
      KvmIoctl(fd(), KVM_ENABLE_CAP, &cap, "KVM_ENABLE_CAP", "KVM_CAP_X86_BUS_LOCK_EXIT"));
  return true;
}

absl::StatusOr<bool> KvmVm::EnableCapability(VmCapability capability, uint32_t flags) {
  if (flags != 0) return Malformed(absl::StrFormat("capability flags %#x: none is known", flags));
  if (!CheckCapability(capability)) return false;
  if (capability == VmCapability::kBusLockDetect) return EnableBusLockDetect();
  if (capability != VmCapability::kSplitIrqchip) return true;
  RETURN_IF_ERROR(CreateIrqchip({.pit = false, .split = true}));
  return true;
}

absl::Status KvmVm::CreateIrqchip(const IrqchipOptions& options) {
  const BackendCapabilities& host = machine_->host->capabilities();
  if (!host.irqchip) return Unsupported("irqchip");
  if (options.split && !options.pit && !host.split_irqchip) return Unsupported("split irqchip");
  return machine_->irqchip.Create(options);
}

absl::StatusOr<std::unique_ptr<Vcpu>> KvmVm::CreateVcpu(uint32_t id, uint32_t vcpu_count) {
  if (vcpu_count > machine_->host->capabilities().max_vcpus || id >= vcpu_count)
    return Malformed(absl::StrFormat("vCPU %u of %u: the host allows %u", id, vcpu_count,
                                     machine_->host->capabilities().max_vcpus));
  return KvmVcpu::Create(machine_, id, vcpu_count);
}

absl::StatusOr<std::unique_ptr<IrqLine>> KvmVm::MakeIrqLine(uint32_t gsi) {
  RETURN_IF_ERROR(CheckGsi(gsi, KvmIrqchip::kPins));
  if (!machine_->irqchip.has_lines()) return NoIrqchip();
  return std::make_unique<KvmIrqLine>(machine_, gsi);
}

absl::Status KvmVm::RegisterIrqfd(const Fd& event, uint32_t gsi, const Fd* resample) {
  if (!event.valid() || (resample != nullptr && !resample->valid()))
    return Malformed("irqfd without an eventfd");
  RETURN_IF_ERROR(CheckGsi(gsi, kMaxGsi));
  if (!machine_->irqchip.exists()) return NoIrqchip();
  if (!machine_->host->capabilities().irqfd) return Unsupported("irqfd");
  struct kvm_irqfd request = {.fd = static_cast<uint32_t>(event.get()), .gsi = gsi};
  if (resample != nullptr) {
    if (!machine_->host->capabilities().irqfd_resample) return Unsupported("irqfd with resample");
    request.flags = KVM_IRQFD_FLAG_RESAMPLE;
    request.resamplefd = static_cast<uint32_t>(resample->get());
  }
  const absl::Status status =
      KvmIoctl(fd(), KVM_IRQFD, &request, "KVM_IRQFD", absl::StrCat("interrupt ", gsi));
  return WithErrno(status, EBUSY, AlreadyThere);
}

absl::Status KvmVm::UnregisterIrqfd(const Fd& event, uint32_t gsi) {
  if (!event.valid()) return Malformed("irqfd without an eventfd");
  RETURN_IF_ERROR(CheckGsi(gsi, kMaxGsi));
  if (!machine_->irqchip.exists()) return NoIrqchip();
  struct kvm_irqfd request = {
      .fd = static_cast<uint32_t>(event.get()), .gsi = gsi, .flags = KVM_IRQFD_FLAG_DEASSIGN};
  return KvmIoctl(fd(), KVM_IRQFD, &request, "KVM_IRQFD", absl::StrCat("interrupt ", gsi));
}

absl::Status KvmVm::SetIrqRoutes(const IrqRoutes& routes) {
  return machine_->irqchip.SetRoutes(routes);
}

absl::StatusOr<IrqchipState> KvmVm::SaveIrqchip() { return machine_->irqchip.Save(); }

absl::Status KvmVm::RestoreIrqchip(const IrqchipState& state) {
  return machine_->irqchip.Restore(state);
}

absl::Status KvmVm::ResetIrqchip() { return machine_->irqchip.Reset(); }

}  // namespace drover
