#include "vmm/core/irqchip_state.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "vmm/base/status.h"
#include "vmm/core/vm_errors.h"

namespace drover {
namespace {

constexpr uint8_t kLastPicInitState = 3;
constexpr uint32_t kLastPitCount = 65536;
constexpr uint8_t kLastPitMode = 7;      // 6 and 7 are 2 and 3
constexpr uint8_t kPitModeNever = 0xFF;  // KVM's, before the guest sets one
constexpr uint8_t kLastPitWordState = 4;
constexpr uint64_t kReservedRedirectionBits = 0x00FFFFFFFFFE0000;

absl::Status Wrong(absl::string_view what) {
  return Malformed(absl::StrCat("interrupt controller state: ", what));
}

absl::Status CheckPic(const PicState& pic) {
  if (pic.priority_add > 7) return Wrong(absl::StrCat("PIC priority ", pic.priority_add));
  if (pic.init_state > kLastPicInitState) return Wrong(absl::StrCat("PIC init ", pic.init_state));
  if (pic.irq_base & 7) return Wrong(absl::StrFormat("PIC vector base %#x", pic.irq_base));
  return absl::OkStatus();
}

absl::Status CheckIoapic(const IoapicState& ioapic) {
  if (ioapic.id > 15) return Wrong(absl::StrCat("I/O APIC id ", ioapic.id));
  if (ioapic.irr >> IoapicState::kPins) return Wrong("I/O APIC IRR of more pins than it has");
  for (uint32_t pin = 0; pin < IoapicState::kPins; ++pin)
    if (ioapic.redirections[pin].bits & kReservedRedirectionBits)
      return Wrong(absl::StrFormat("I/O APIC pin %d: %#x", pin, ioapic.redirections[pin].bits));
  return absl::OkStatus();
}

absl::Status CheckPit(const PitState& pit) {
  if (pit.flags & ~(PitState::kHpetLegacy | PitState::kSpeakerDataOn))
    return Wrong(absl::StrFormat("PIT flags %#x", pit.flags));
  for (const PitChannelState& c : pit.channels)
    if (c.count > kLastPitCount || (c.mode > kLastPitMode && c.mode != kPitModeNever) ||
        c.rw_mode > 3 || std::max(c.read_state, c.write_state) > kLastPitWordState ||
        std::max({c.status_latched, c.bcd, c.gate}) > 1)
      return Wrong(absl::StrFormat("PIT counter: count %d mode %d", c.count, c.mode));
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckIrqchipState(const PcIrqchipState& state) {
  RETURN_IF_ERROR(CheckPic(state.pic_master));
  RETURN_IF_ERROR(CheckPic(state.pic_slave));
  RETURN_IF_ERROR(CheckIoapic(state.ioapic));
  return state.pit ? CheckPit(*state.pit) : absl::OkStatus();
}

absl::Status CheckIrqchipState(const IrqchipState& state, bool split, bool pit) {
  if (std::holds_alternative<SplitIrqchipState>(state) != split)
    return Wrong(split ? "the VM's is split" : "the VM's is not split");
  const auto* pc = std::get_if<PcIrqchipState>(&state);
  if (pc == nullptr) return absl::OkStatus();
  if (pc->pit.has_value() != pit) return Wrong(pit ? "no PIT" : "a PIT, and the VM has none");
  return CheckIrqchipState(*pc);
}

}  // namespace drover
