#ifndef DROVER_DEVICES_SERIAL_SERIAL_H_
#define DROVER_DEVICES_SERIAL_SERIAL_H_

#include <cstddef>
#include <cstdint>
#include <deque>
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

// Where a serial port's output goes.
class SerialSink {
 public:
  virtual ~SerialSink() = default;
  // Takes bytes that the guest sent, in order. Called on vCPU threads, with no lock of the port
  // held; never blocks: what it cannot keep, it drops.
  virtual void Write(std::span<const uint8_t> bytes) = 0;
};

// A 16550A UART (National PC16550D data sheet) whose wire is infinitely fast: a byte sent is gone
// at once, so the transmitter is always empty. Input waits in a queue in front of the 16-byte
// receive FIFO. The interrupt does not depend on OUT2. Thread-safe.
class SerialPort : public IoDevice, public StatefulDevice {
 public:
  static constexpr uint64_t kPortCount = 8;
  static constexpr size_t kInputCapacity = 4096;  // bytes, FIFO included

  struct Options {
    IrqLine* irq = nullptr;      // borrowed
    SerialSink* sink = nullptr;  // borrowed
    // Called after Feed took less than it was given and at least half of the queue is free again:
    // once for each such Feed. On the vCPU thread that made the room, or within Reset; must not
    // block.
    std::function<void()> on_room;
  };

  // The registers, as after power-on.
  struct State {
    uint8_t interrupt_enable = 0;
    uint8_t fifo_control = 0;
    uint8_t line_control = 0;
    uint8_t modem_control = 0;
    uint8_t modem_delta = 0;  // MSR bits 0-3
    uint8_t scratch = 0;
    uint16_t divisor = 12;             // 9600 baud
    bool transmit_interrupt = false;   // "holding register empty" not yet seen by the guest
    bool overrun = false;              // LSR bit 1, by loopback only
    std::deque<uint8_t> receive_fifo;  // what the guest can read: at most 16, 1 without FIFO
    std::deque<uint8_t> backlog;       // what waits for room in the FIFO
  };

  explicit SerialPort(Options options);

  absl::string_view name() const override { return "serial"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  absl::string_view state_type() const override { return "serial"; }
  std::vector<uint8_t> SaveState() override;
  absl::Status RestoreState(uint32_t version, std::span<const uint8_t> bytes) override;

  // Queues input for the guest, from any thread; returns how many of the bytes were taken, from the
  // first on. on_room says when to try the rest again.
  size_t Feed(std::span<const uint8_t> bytes);

  // Power-on state: registers, FIFO and queue. The vCPUs are stopped.
  void Reset();

 private:
  struct Effects;  // what an access causes outside, done after the lock is released

  uint8_t ReadRegister(uint64_t offset, Effects* effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteRegister(uint64_t offset, uint8_t value, Effects* effects)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint8_t ReadReceived(Effects* effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint8_t ReadInterruptId() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint8_t ReadLineStatus() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint8_t ReadModemStatus() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Transmit(uint8_t value, Effects* effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetInterruptEnable(uint8_t value) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetFifoControl(uint8_t value, Effects* effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetModemControl(uint8_t value) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  bool Loopback() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint8_t InterruptId() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RefillFifo(Effects* effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void UpdateIrq() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Finish(const Effects& effects) ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;
  IrqLevel irq_;
  Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_);
  bool feeder_waits_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace drover

#endif  // DROVER_DEVICES_SERIAL_SERIAL_H_
