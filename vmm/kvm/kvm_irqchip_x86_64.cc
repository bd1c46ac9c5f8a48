#include "vmm/core/vm_errors.h"
#include "vmm/kvm/kvm_ioctl.h"
#include "vmm/kvm/kvm_irqchip.h"

namespace drover {
namespace {

// KvmHypervisor::Prewarm may have made it already; nothing has changed it since.
absl::Status UnlessPrewarmed(const absl::Status& status) {
  return PosixErrno(status) == EEXIST ? absl::OkStatus() : status;
}

}  // namespace

absl::Status KvmIrqchip::Create(const IrqchipOptions& options) {
  if (options.split && options.pit)
    return Malformed("a PIT needs the PIC in the kernel: not split");
  MutexLock lock(&mutex_);
  if (exists_) return AlreadyThere("the VM has an interrupt controller");
  RETURN_IF_ERROR(options.split ? CreateSplit() : CreateWhole());
  exists_ = true;
  split_ = options.split;
  if (!options.pit) return absl::OkStatus();
  return CreatePit();
}

absl::Status KvmIrqchip::CreateSplit() {
  if (KvmExtension(vm_fd_, KVM_CAP_SPLIT_IRQCHIP) == 0) return Unsupported("split irqchip");
  struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {kPins}};
  return KvmIoctl(vm_fd_, KVM_ENABLE_CAP, &cap, "KVM_ENABLE_CAP", "KVM_CAP_SPLIT_IRQCHIP");
}

absl::Status KvmIrqchip::CreateWhole() {
  RETURN_IF_ERROR(UnlessPrewarmed(KvmIoctl(vm_fd_, KVM_CREATE_IRQCHIP, 0, "KVM_CREATE_IRQCHIP")));
  for (uint32_t id = 0; id < chips_at_power_on_.size(); ++id) {
    chips_at_power_on_[id].chip_id = id;
    RETURN_IF_ERROR(KvmIoctl(vm_fd_, KVM_GET_IRQCHIP, &chips_at_power_on_[id], "KVM_GET_IRQCHIP"));
  }
  return absl::OkStatus();
}

absl::Status KvmIrqchip::CreatePit() {
  struct kvm_pit_config config = {.flags = KVM_PIT_SPEAKER_DUMMY};
  RETURN_IF_ERROR(UnlessPrewarmed(KvmIoctl(vm_fd_, KVM_CREATE_PIT2, &config, "KVM_CREATE_PIT2")));
  pit_ = true;
  return KvmIoctl(vm_fd_, KVM_GET_PIT2, &pit_at_power_on_, "KVM_GET_PIT2");
}

absl::Status KvmIrqchip::Reset() {
  MutexLock lock(&mutex_);
  if (!exists_) return absl::FailedPreconditionError("the VM has no interrupt controller");
  if (split_) return absl::OkStatus();
  for (struct kvm_irqchip& chip : chips_at_power_on_)
    RETURN_IF_ERROR(KvmIoctl(vm_fd_, KVM_SET_IRQCHIP, &chip, "KVM_SET_IRQCHIP"));
  if (!pit_) return absl::OkStatus();
  return KvmIoctl(vm_fd_, KVM_SET_PIT2, &pit_at_power_on_, "KVM_SET_PIT2");
}

bool KvmIrqchip::exists() {
  MutexLock lock(&mutex_);
  return exists_;
}

bool KvmIrqchip::has_lines() {
  MutexLock lock(&mutex_);
  return exists_ && !split_;
}

}  // namespace drover
