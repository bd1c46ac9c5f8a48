#ifndef DROVER_DEVICES_I8042_I8042_H_
#define DROVER_DEVICES_I8042_I8042_H_

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "devices/state/stateful_device.h"
#include "vmm/base/mutex.h"
#include "vmm/core/io_bus.h"

namespace drover {

// An i8042 keyboard controller with no keyboard, no mouse and no interrupts: it resets the machine
// (command 0xFE) and answers a driver's probe. Ports 0x60 (data) and 0x64 (status, command); the
// ports between read as ones. Thread-safe.
class I8042 : public IoDevice, public StatefulDevice {
 public:
  static constexpr uint64_t kPortCount = 5;

  struct Options {
    // The guest asks for a reset of the machine. On a vCPU thread, no lock held; must not block.
    std::function<void()> on_reset;
  };

  // The registers, as after power-on.
  struct State {
    std::array<uint8_t, 32> ram = {0x30};  // byte 0 is the command byte: both ports disabled
    uint8_t output = 0;                    // what port 0x60 reads
    bool output_full = false;
    uint8_t command = 0;  // one that waits for its data byte; 0: none
    bool last_write_was_command = false;
  };

  explicit I8042(Options options);

  absl::string_view name() const override { return "i8042"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  absl::string_view state_type() const override { return "i8042"; }
  std::vector<uint8_t> SaveState() override;
  absl::Status RestoreState(uint32_t version, std::span<const uint8_t> bytes) override;

  void Reset();

 private:
  uint8_t ReadPort(uint64_t offset) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // True when the guest asks for a reset.
  bool WritePort(uint64_t offset, uint8_t value) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool RunCommand(uint8_t command) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool TakeData(uint8_t value) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Answer(uint8_t value) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace drover

#endif  // DROVER_DEVICES_I8042_I8042_H_
