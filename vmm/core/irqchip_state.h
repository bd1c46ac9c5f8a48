#ifndef DROVER_VMM_CORE_IRQCHIP_STATE_H_
#define DROVER_VMM_CORE_IRQCHIP_STATE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <variant>

#include "absl/status/status.h"

namespace drover {

// The state of a VM's interrupt controllers and timer as Vm::SaveIrqchip gives it: of what kind
// they are is in the variant, and each kind has its checks. Local APICs belong to their vCPUs.

// One 8259A (struct kvm_pic_state).
struct PicState {
  uint8_t last_irr = 0, irr = 0, imr = 0, isr = 0;
  uint8_t priority_add = 0, irq_base = 0, read_reg_select = 0, poll = 0;
  uint8_t special_mask = 0, init_state = 0, auto_eoi = 0, rotate_on_auto_eoi = 0;
  uint8_t special_fully_nested_mode = 0, init4 = 0, elcr = 0, elcr_mask = 0;
  bool operator==(const PicState&) const = default;
};
static_assert(sizeof(PicState) == 16);

// A redirection entry of the I/O APIC (82093AA §3.2.4): fields of its 64 bits.
struct IoapicRedirection {
  uint64_t bits = 0;

  static constexpr uint64_t kDeliveryPending = 1 << 12;
  static constexpr uint64_t kActiveLow = 1 << 13;
  static constexpr uint64_t kRemoteIrr = 1 << 14;
  static constexpr uint64_t kLevel = 1 << 15;
  static constexpr uint64_t kMasked = 1 << 16;

  uint8_t vector() const { return static_cast<uint8_t>(bits); }
  uint8_t delivery_mode() const { return bits >> 8 & 7; }
  bool logical() const { return bits >> 11 & 1; }
  uint8_t destination() const { return static_cast<uint8_t>(bits >> 56); }
  bool operator==(const IoapicRedirection&) const = default;
};

// struct kvm_ioapic_state.
struct IoapicState {
  static constexpr uint32_t kPins = 24;

  uint64_t base_address = 0;
  uint32_t selected_register = 0;
  uint32_t id = 0;
  uint32_t irr = 0;  // pins that wait to be delivered
  std::array<IoapicRedirection, kPins> redirections = {};
  bool operator==(const IoapicState&) const = default;
};

// One counter of the 8254 (struct kvm_pit_channel_state), but for the moment at which it was
// loaded: that is a time of the host's, and a restored counter starts anew.
struct PitChannelState {
  uint32_t count = 0;  // 1 to 65536; 0 as 65536
  uint16_t latched_count = 0;
  uint8_t count_latched = 0, status_latched = 0, status = 0;
  uint8_t read_state = 0, write_state = 0, write_latch = 0;
  uint8_t rw_mode = 0, mode = 0, bcd = 0, gate = 0;
  bool operator==(const PitChannelState&) const = default;
};

// struct kvm_pit_state2.
struct PitState {
  static constexpr uint32_t kHpetLegacy = 1 << 0;
  static constexpr uint32_t kSpeakerDataOn = 1 << 1;

  std::array<PitChannelState, 3> channels = {};
  uint32_t flags = 0;
  bool operator==(const PitState&) const = default;
};

// PIC, I/O APIC and perhaps PIT, all in the kernel.
struct PcIrqchipState {
  PicState pic_master, pic_slave;
  IoapicState ioapic;
  std::optional<PitState> pit;
  bool operator==(const PcIrqchipState&) const = default;
};

// Only local APICs are in the kernel: there is nothing to keep for the VM.
struct SplitIrqchipState {
  bool operator==(const SplitIrqchipState&) const = default;
};

using IrqchipState = std::variant<PcIrqchipState, SplitIrqchipState>;

// INVALID_ARGUMENT for a value that no such chip holds.
absl::Status CheckIrqchipState(const PcIrqchipState& state);
// INVALID_ARGUMENT unless `state` is of the kind that a VM has: PIT or none, split or not; and
// CheckIrqchipState. Every backend's rule.
absl::Status CheckIrqchipState(const IrqchipState& state, bool split, bool pit);

}  // namespace drover

#endif  // DROVER_VMM_CORE_IRQCHIP_STATE_H_
