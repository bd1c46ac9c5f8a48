#include <vector>

#include "vmm/core/vm_errors.h"
#include "vmm/kvm/kvm_ioctl.h"
#include "vmm/kvm/kvm_irqchip.h"
#include "vmm/kvm/state_convert.h"

namespace drover {
namespace {

// KvmHypervisor::Prewarm, or a Create that failed after it, may have made it already; nothing has
// changed it since.
absl::Status UnlessThere(const absl::Status& status) {
  return PosixErrno(status) == EEXIST ? absl::OkStatus() : status;
}

}  // namespace

absl::Status KvmIrqchip::Create(const IrqchipOptions& options) {
  if (options.split && options.pit)
    return Malformed("a PIT needs the PIC in the kernel: not split");
  MutexLock lock(&mutex_);
  if (exists_) return AlreadyThere("the VM has an interrupt controller");
  RETURN_IF_ERROR(options.split ? CreateSplit() : CreateWhole());
  if (options.pit) RETURN_IF_ERROR(CreatePit());
  exists_ = true;
  split_ = options.split;
  pit_ = options.pit;
  return absl::OkStatus();
}

absl::Status KvmIrqchip::CreateSplit() {
  if (KvmExtension(vm_fd_, KVM_CAP_SPLIT_IRQCHIP) == 0) return Unsupported("split irqchip");
  struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {kPins}};
  return KvmIoctl(vm_fd_, KVM_ENABLE_CAP, &cap, "KVM_ENABLE_CAP", "KVM_CAP_SPLIT_IRQCHIP");
}

absl::Status KvmIrqchip::CreateWhole() {
  RETURN_IF_ERROR(UnlessThere(KvmIoctl(vm_fd_, KVM_CREATE_IRQCHIP, 0, "KVM_CREATE_IRQCHIP")));
  for (uint32_t id = 0; id < chips_at_power_on_.size(); ++id) {
    chips_at_power_on_[id].chip_id = id;
    RETURN_IF_ERROR(KvmIoctl(vm_fd_, KVM_GET_IRQCHIP, &chips_at_power_on_[id], "KVM_GET_IRQCHIP"));
  }
  return absl::OkStatus();
}

absl::Status KvmIrqchip::CreatePit() {
  struct kvm_pit_config config = {.flags = KVM_PIT_SPEAKER_DUMMY};
  RETURN_IF_ERROR(UnlessThere(KvmIoctl(vm_fd_, KVM_CREATE_PIT2, &config, "KVM_CREATE_PIT2")));
  return KvmIoctl(vm_fd_, KVM_GET_PIT2, &pit_at_power_on_, "KVM_GET_PIT2");
}

absl::Status KvmIrqchip::CheckExists() const {
  if (exists_) return absl::OkStatus();
  return absl::FailedPreconditionError("the VM has no interrupt controller");
}

absl::Status KvmIrqchip::SetRoutes(const IrqRoutes& routes) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(CheckExists());
  if (split_ && routes.has_pins()) return Malformed("routes to pins of a split irqchip");
  const size_t entry_bytes = routes.routes().size() * sizeof(struct kvm_irq_routing_entry);
  std::vector<uint64_t> buffer((sizeof(struct kvm_irq_routing) + entry_bytes) / 8 + 1);
  auto* table = reinterpret_cast<struct kvm_irq_routing*>(buffer.data());
  for (const IrqRoute& route : routes.routes()) table->entries[table->nr++] = ToKvm(route);
  return KvmIoctl(vm_fd_, KVM_SET_GSI_ROUTING, table, "KVM_SET_GSI_ROUTING");
}

absl::StatusOr<IrqchipState> KvmIrqchip::Save() {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(CheckExists());
  if (split_) return SplitIrqchipState{};
  Chips chips = {};
  for (uint32_t id = 0; id < chips.size(); ++id) {
    chips[id].chip_id = id;
    RETURN_IF_ERROR(KvmIoctl(vm_fd_, KVM_GET_IRQCHIP, &chips[id], "KVM_GET_IRQCHIP"));
  }
  PcIrqchipState state = {.pic_master = FromKvm(chips[KVM_IRQCHIP_PIC_MASTER].chip.pic),
                          .pic_slave = FromKvm(chips[KVM_IRQCHIP_PIC_SLAVE].chip.pic),
                          .ioapic = FromKvm(chips[KVM_IRQCHIP_IOAPIC].chip.ioapic),
                          .pit = std::nullopt};
  if (!pit_) return state;
  struct kvm_pit_state2 pit = {};
  RETURN_IF_ERROR(KvmIoctl(vm_fd_, KVM_GET_PIT2, &pit, "KVM_GET_PIT2"));
  state.pit = FromKvm(pit);
  return state;
}

absl::Status KvmIrqchip::SetPc(Chips chips, const struct kvm_pit_state2* pit) {
  for (uint32_t id = 0; id < chips.size(); ++id) {
    chips[id].chip_id = id;
    RETURN_IF_ERROR(KvmIoctl(vm_fd_, KVM_SET_IRQCHIP, &chips[id], "KVM_SET_IRQCHIP"));
  }
  if (pit == nullptr) return absl::OkStatus();
  return KvmIoctl(vm_fd_, KVM_SET_PIT2, pit, "KVM_SET_PIT2");
}

absl::Status KvmIrqchip::Restore(const IrqchipState& state) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(CheckExists());
  RETURN_IF_ERROR(CheckIrqchipState(state, split_, pit_));
  const auto* pc = std::get_if<PcIrqchipState>(&state);
  if (pc == nullptr) return absl::OkStatus();
  Chips chips = {};
  chips[KVM_IRQCHIP_PIC_MASTER].chip.pic = ToKvm(pc->pic_master);
  chips[KVM_IRQCHIP_PIC_SLAVE].chip.pic = ToKvm(pc->pic_slave);
  chips[KVM_IRQCHIP_IOAPIC].chip.ioapic = ToKvm(pc->ioapic);
  if (!pc->pit) return SetPc(chips, nullptr);
  const struct kvm_pit_state2 pit = ToKvm(*pc->pit);
  return SetPc(chips, &pit);
}

absl::Status KvmIrqchip::Reset() {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(CheckExists());
  if (split_) return absl::OkStatus();
  return SetPc(chips_at_power_on_, pit_ ? &pit_at_power_on_ : nullptr);
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
