#ifndef DROVER_VMM_KVM_KVM_IRQCHIP_H_
#define DROVER_VMM_KVM_KVM_IRQCHIP_H_

#include <linux/kvm.h>

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "vmm/base/mutex.h"
#include "vmm/core/vm.h"

namespace drover {

// The in-kernel interrupt controllers of a VM: PIC, I/O APIC and PIT, or with `split` the local
// APICs only. Thread-safe.
class KvmIrqchip {
 public:
  static constexpr uint32_t kPins = 24;  // of the I/O APIC

  explicit KvmIrqchip(int vm_fd) : vm_fd_(vm_fd) {}

  // See Vm::CreateIrqchip. Notes the state at power-on.
  absl::Status Create(const IrqchipOptions& options);
  // See Vm::SetIrqRoutes, SaveIrqchip and RestoreIrqchip.
  absl::Status SetRoutes(const IrqRoutes& routes);
  absl::StatusOr<IrqchipState> Save();
  absl::Status Restore(const IrqchipState& state);
  // See Vm::ResetIrqchip.
  absl::Status Reset();
  bool exists();
  // Whether lines can be set: the whole chip is in the kernel.
  bool has_lines();

 private:
  using Chips = std::array<struct kvm_irqchip, 3>;  // by KVM_IRQCHIP_*

  // Sets PIC, I/O APIC and, unless null, the PIT.
  absl::Status SetPc(Chips chips, const struct kvm_pit_state2* pit)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CreateSplit() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CreateWhole() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckExists() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CreatePit() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int vm_fd_;
  Mutex mutex_;
  bool exists_ ABSL_GUARDED_BY(mutex_) = false;
  bool split_ ABSL_GUARDED_BY(mutex_) = false;
  bool pit_ ABSL_GUARDED_BY(mutex_) = false;
  Chips chips_at_power_on_ ABSL_GUARDED_BY(mutex_) = {};
  struct kvm_pit_state2 pit_at_power_on_ ABSL_GUARDED_BY(mutex_) = {};
};

}  // namespace drover

#endif  // DROVER_VMM_KVM_KVM_IRQCHIP_H_
