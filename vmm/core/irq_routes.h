#ifndef DROVER_VMM_CORE_IRQ_ROUTES_H_
#define DROVER_VMM_CORE_IRQ_ROUTES_H_

#include <cstdint>
#include <variant>
#include <vector>

#include "absl/status/status.h"

namespace drover {

// A pin of an in-kernel interrupt controller.
struct IrqchipPin {
  enum class Chip { kPicMaster, kPicSlave, kIoapic };
  Chip chip = Chip::kIoapic;
  uint32_t pin = 0;  // below 8 of a PIC, below 24 of the I/O APIC
  bool operator==(const IrqchipPin&) const = default;
};

// A message-signalled interrupt: what a device writes where (SDM vol. 3A §11.11).
struct MsiMessage {
  uint64_t address = 0;
  uint32_t data = 0;
  bool operator==(const MsiMessage&) const = default;
};

struct IrqRoute {
  uint32_t gsi = 0;
  std::variant<IrqchipPin, MsiMessage> to;
  bool operator==(const IrqRoute&) const = default;
};

// Where each global system interrupt of a VM goes: to pins, one of each chip at most, or to one
// message. A plain value; thread-compatible. Vm::SetIrqRoutes puts a whole table in place at once.
class IrqRoutes {
 public:
  static constexpr uint32_t kMaxGsi = 4096;  // KVM_MAX_IRQ_ROUTES; so many routes at most

  // A PC's, as KVM has it after KVM_CREATE_IRQCHIP: 0-15 to PIC and I/O APIC, 16-23 to the latter.
  static IrqRoutes Pc();

  // Each refusal changes nothing: OUT_OF_RANGE for a number or pin that there is not,
  // ALREADY_EXISTS where the interrupt goes there, or to a message, or has pins, already.
  absl::Status AddPin(uint32_t gsi, IrqchipPin pin);
  absl::Status AddMsi(uint32_t gsi, MsiMessage message);
  // Adds or replaces the message of an interrupt that goes to no pin.
  absl::Status SetMsi(uint32_t gsi, MsiMessage message);
  // All that it went to; NOT_FOUND if to nothing.
  absl::Status Remove(uint32_t gsi);

  const std::vector<IrqRoute>& routes() const { return routes_; }  // in the order of addition
  bool has_pins() const;
  bool operator==(const IrqRoutes&) const = default;

 private:
  absl::Status CheckRoom(uint32_t gsi) const;
  std::vector<IrqRoute> routes_;
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_IRQ_ROUTES_H_
