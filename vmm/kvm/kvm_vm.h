#ifndef DROVER_VMM_KVM_KVM_VM_H_
#define DROVER_VMM_KVM_KVM_VM_H_

#include <memory>
#include <span>
#include <utility>

#include "vmm/core/vm.h"
#include "vmm/kvm/kvm_machine.h"

namespace drover {

// One handle of a KVM virtual machine. Thread-safe.
class KvmVm : public Vm {
 public:
  explicit KvmVm(std::shared_ptr<KvmMachine> machine) : machine_(std::move(machine)) {}

  absl::StatusOr<std::unique_ptr<Vm>> Clone() override;
  bool CheckCapability(VmCapability capability) const override;
  uint32_t GuestPhysicalBits() const override;
  GuestMemory& memory() override { return machine_->slots.memory(); }

  absl::StatusOr<MemorySlot> AddMemoryRegion(uint64_t address, std::unique_ptr<MemoryRegion> region,
                                             bool read_only, bool log_dirty_pages,
                                             CacheType cache) override;
  absl::StatusOr<std::unique_ptr<MemoryRegion>> RemoveMemoryRegion(MemorySlot slot) override;
  absl::Status MsyncMemoryRegion(MemorySlot slot, uint64_t offset, uint64_t size) override;
  absl::Status MadvisePageoutMemoryRegion(MemorySlot slot, uint64_t offset, uint64_t size) override;
  absl::Status MadviseRemoveMemoryRegion(MemorySlot slot, uint64_t offset, uint64_t size) override;

  absl::StatusOr<Fd> CreateDevice(DeviceKind kind) override;

  absl::Status SetDirtyLogging(MemorySlot slot, bool enabled) override;
  absl::Status GetDirtyLog(MemorySlot slot, std::span<uint8_t> bitmap) override;
  absl::StatusOr<std::unique_ptr<DirtySource>> OpenDirtySource(
      const DirtySourceOptions& options) override;

  absl::Status RegisterIoevent(const Fd& event, IoAddress address, Datamatch match) override;
  absl::Status UnregisterIoevent(const Fd& event, IoAddress address, Datamatch match) override;
  absl::Status HandleIoEvents(IoAddress address, std::span<const uint8_t> data) override;

  absl::StatusOr<PvClock> GetPvClock() override;
  absl::Status SetPvClock(const PvClock& clock) override;

  absl::Status AddFdMapping(MemorySlot slot, uint64_t offset, uint64_t size, const Fd& fd,
                            uint64_t fd_offset, Protection protection) override;
  absl::Status RemoveMapping(MemorySlot slot, uint64_t offset, uint64_t size) override;

  absl::Status HandleBalloonEvent(const BalloonEvent& event) override;
  absl::StatusOr<bool> EnableCapability(VmCapability capability, uint32_t flags) override;

  absl::Status CreateIrqchip(const IrqchipOptions& options) override;
  absl::StatusOr<std::unique_ptr<Vcpu>> CreateVcpu(uint32_t id, uint32_t vcpu_count) override;
  absl::StatusOr<std::unique_ptr<IrqLine>> MakeIrqLine(uint32_t gsi) override;
  absl::Status RegisterIrqfd(const Fd& event, uint32_t gsi, const Fd* resample) override;
  absl::Status UnregisterIrqfd(const Fd& event, uint32_t gsi) override;
  absl::Status SetIrqRoutes(const IrqRoutes& routes) override;
  absl::StatusOr<IrqchipState> SaveIrqchip() override;
  absl::Status RestoreIrqchip(const IrqchipState& state) override;
  absl::Status ResetIrqchip() override;

 private:
  int fd() const { return machine_->vm.get(); }
  bool Has(int extension) const;
  // Assigns or, with KVM_IOEVENTFD_FLAG_DEASSIGN in `flags`, takes back.
  absl::Status SetIoevent(const Fd& event, IoAddress address, Datamatch match, uint32_t flags);
  absl::StatusOr<bool> EnableBusLockDetect();

  const std::shared_ptr<KvmMachine> machine_;
};

}  // namespace drover

#endif  // DROVER_VMM_KVM_KVM_VM_H_
