#ifndef DROVER_DEVICES_POWER_POWER_H_
#define DROVER_DEVICES_POWER_POWER_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "devices/irq/irq_level.h"
#include "devices/state/stateful_device.h"
#include "vmm/base/mutex.h"
#include "vmm/core/io_bus.h"
#include "vmm/core/irq_line.h"

namespace drover {

// ACPI's fixed hardware (ACPI 6.4 §4.8.3): the PM1a event block (status, enable) and, right after
// it, the PM1a control block. The power button is a fixed event; writing SLP_EN with the type of
// \_S5 turns the machine off. There is no SMI command, so SCI_EN reads as one always. Thread-safe.
class PowerDevice : public IoDevice, public StatefulDevice {
 public:
  static constexpr uint64_t kPortCount = 6;  // from layout::kPm1EventPort

  struct Options {
    IrqLine* sci = nullptr;  // borrowed; level, active high
    // The guest turned its machine off. On a vCPU thread, no lock held; must not block.
    std::function<void()> on_shutdown;
  };

  // The registers, as after power-on.
  struct State {
    uint16_t status = 0;
    uint16_t enable = 0;
    uint16_t control = 0;  // without SCI_EN and the write-only bits
  };

  explicit PowerDevice(Options options);

  absl::string_view name() const override { return "acpi-power"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  absl::string_view state_type() const override { return "acpi-power"; }
  std::vector<uint8_t> SaveState() override;
  absl::Status RestoreState(uint32_t version, std::span<const uint8_t> bytes) override;

  // Presses the power button. FAILED_PRECONDITION with the reason POWER_BUTTON_IGNORED while the
  // guest has not enabled it (no ACPI driver listens, so pressing would do nothing). Any thread.
  absl::Status PressPowerButton();

  void Reset();

 private:
  // True when the guest turns the machine off.
  bool WriteControl(uint16_t value, uint16_t mask) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteSci() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  IrqLevel sci_;
  Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace drover

#endif  // DROVER_DEVICES_POWER_POWER_H_
