#ifndef DROVER_DEVICES_RTC_RTC_H_
#define DROVER_DEVICES_RTC_RTC_H_

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "devices/irq/irq_level.h"
#include "devices/state/stateful_device.h"
#include "vmm/base/clock.h"
#include "vmm/base/mutex.h"
#include "vmm/core/io_bus.h"
#include "vmm/core/irq_line.h"

namespace drover {

// An MC146818 real-time clock with 128 bytes of CMOS memory and the century at 0x32 (as the FADT
// says), in UTC, at ports 0x70 (index) and 0x71 (data). The time is the injected clock's plus what
// the guest set. Alarm and update-ended interrupts; the periodic interrupt and the square wave
// never come. Thread-safe.
class Rtc : public IoDevice, public StatefulDevice {
 public:
  static constexpr uint64_t kPortCount = 2;

  struct Options {
    const Clock* clock = nullptr;  // borrowed
    IrqLine* irq = nullptr;        // borrowed; nullptr: no interrupts
    // Asks for one OnTimer call at this time of the clock (Unix, nanoseconds), instead of any asked
    // for before. On a vCPU thread, or within OnTimer or Reset; no lock held; must not block.
    // Empty: flags are set when they are read, and no interrupt comes.
    std::function<void(int64_t unix_nanos)> arm_timer;
  };

  // The registers, as after power-on.
  struct State {
    uint8_t index = 0;
    std::array<uint8_t, 128> cmos = {};  // the time of day's bytes are used while SET is on
    int64_t offset_seconds = 0;          // guest's time minus the clock's
    int64_t flags_second = 0;            // the clock's second up to which register C's flags are
  };

  explicit Rtc(Options options);

  absl::string_view name() const override { return "rtc"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  absl::string_view state_type() const override { return "rtc"; }
  std::vector<uint8_t> SaveState() override;
  absl::Status RestoreState(uint32_t version, std::span<const uint8_t> bytes) override;

  // The time asked for has come. Any thread.
  void OnTimer();

  // Power-on state; the memory and the time, which the battery keeps, stay.
  void Reset();

 private:
  // Reads or writes one register, and keeps the interrupt and the timer right.
  uint8_t ReadData() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteData(uint8_t value) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteRegisterB(uint8_t value) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint8_t TakeRegisterC() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool UpdateInProgress() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  bool Is(uint8_t register_b_bit) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint8_t Encode(int value) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint8_t EncodeHour(int hour) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int Decode(uint8_t value) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int DecodeHour(uint8_t value) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // The clock's time in whole seconds; the guest's time to the time registers and back.
  int64_t ClockSecond() const;
  void StoreTime() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeTime() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool AlarmMatches(int64_t clock_second) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sets register C's flags for the seconds that passed.
  void AdvanceFlags() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteIrq() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // When OnTimer is needed next, in nanoseconds of the clock; 0: not.
  int64_t NextTimer() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Finish(int64_t timer) ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;
  IrqLevel irq_;
  Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace drover

#endif  // DROVER_DEVICES_RTC_RTC_H_
