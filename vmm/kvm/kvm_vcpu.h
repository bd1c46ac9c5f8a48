#ifndef DROVER_VMM_KVM_KVM_VCPU_H_
#define DROVER_VMM_KVM_KVM_VCPU_H_

#include <linux/kvm.h>
#include <sys/types.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/core/vcpu.h"
#include "vmm/kvm/kvm_machine.h"
#include "vmm/kvm/kvm_vcpu_parts.h"
#include "vmm/kvm/vcpu_state_steps.h"

namespace drover {

// The signal that takes a thread out of KVM_RUN; its handler does nothing.
int KickSignal();

// One vCPU of a KVM VM. Threads as Vcpu says.
class KvmVcpu : public Vcpu {
 public:
  static absl::StatusOr<std::unique_ptr<Vcpu>> Create(std::shared_ptr<KvmMachine> machine,
                                                      uint32_t id, uint32_t vcpu_count);

  uint32_t id() const override { return id_; }
  absl::StatusOr<VcpuExit> Run() override;
  void Kick() override;
  absl::Status CompleteExit() override;
  absl::Status SetUpForBoot(const BootRegisters& boot) override;
  absl::StatusOr<VcpuState> SaveState() override;
  absl::Status RestoreState(const VcpuState& state) override;
  absl::StatusOr<uint64_t> GetMsr(uint32_t index) override;
  absl::Status SetMsr(uint32_t index, uint64_t value) override;
  absl::Status NotifyPaused() override;
  std::string DumpRegisters() override;

 private:
  KvmVcpu(std::shared_ptr<KvmMachine> machine, uint32_t id, uint32_t vcpu_count,
          KvmVcpuParts parts);

  struct kvm_run* run() const {
    return reinterpret_cast<struct kvm_run*>(parts_.run.data());
  }
  std::atomic_ref<uint8_t> immediate_exit() const {
    return std::atomic_ref<uint8_t>(run()->immediate_exit);
  }
  template <typename Argument>
  absl::Status Ioctl(unsigned long request, Argument argument, const char* name) const;

  bool TakeKick();
  VcpuExit Decode();
  // The bytes at the instruction pointer, at most 15; fewer where memory or the translation ends.
  std::vector<uint8_t> InstructionBytes() const;

  absl::Status CheckWhole() const;
  // What becomes of the vCPU with `change`, which leaves a mixture when it fails.
  template <typename Change>
  absl::Status Remake(Change change);
  absl::Status Boot(const BootRegisters& boot);
  absl::Status Restore(const VcpuStateContext& context, const VcpuState& state);
  absl::Status DropExit();
  absl::Status ClearForReset();
  absl::StatusOr<VcpuStateContext> StateContext() const;
  absl::Status CheckRestore(const VcpuStateContext& context, const VcpuState& state) const;
  absl::Status LeaveNestedGuest();
  absl::Status ClearEvents();
  absl::Status ClearExtendedState();
  absl::Status SetRegisters(const BootRegisters& boot);
  absl::Status SetLapic();
  absl::Status SetMpState();

  const std::shared_ptr<KvmMachine> machine_;
  const uint32_t id_;
  const uint32_t vcpu_count_;
  const pid_t process_;
  KvmVcpuParts parts_;
  bool set_up_ = false;
  bool mixed_ = false;  // SetUpForBoot or RestoreState began last and did not succeed
  bool has_run_ = false;
  bool restored_ = false;  // its MSRs and the like are a guest's, even if it has not run here
  std::optional<VcpuExit> held_exit_;  // from CompleteExit, for the next Run

  // See Run for how these two and immediate_exit work together.
  std::atomic<bool> kicked_{false};
  std::atomic<pid_t> runner_{0};  // the thread inside Run; 0: none
};

}  // namespace drover

#endif  // DROVER_VMM_KVM_KVM_VCPU_H_
