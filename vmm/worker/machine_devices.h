#ifndef DROVER_VMM_WORKER_MACHINE_DEVICES_H_
#define DROVER_VMM_WORKER_MACHINE_DEVICES_H_

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "devices/i8042/i8042.h"
#include "devices/power/power.h"
#include "devices/rtc/rtc.h"
#include "devices/serial/serial.h"
#include "vmm/base/clock.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/mutex.h"
#include "vmm/core/io_bus.h"
#include "vmm/core/vm.h"
#include "vmm/worker/console.h"
#include "vmm/worker/vcpu_exits.h"

namespace drover {

// The devices of a machine, on its buses, with their interrupt lines: serial port, i8042, RTC and
// ACPI power. Loop-bound; the devices themselves are called on vCPU threads. Must not outlive the
// Vm, the console or the loop.
class MachineDevices {
 public:
  struct Options {
    EventLoop* loop = nullptr;
    Vm* vm = nullptr;
    Console* console = nullptr;  // its input is set to the serial port's
    const Clock* clock = nullptr;
    // The guest asks for power-off or reset. On a vCPU thread; does not block.
    std::function<void(MachineStop)> on_stop;
  };
  static absl::StatusOr<std::unique_ptr<MachineDevices>> Create(const Options& options);
  ~MachineDevices();
  MachineDevices(const MachineDevices&) = delete;
  MachineDevices& operator=(const MachineDevices&) = delete;

  const IoBus& ports() const { return ports_; }
  const IoBus& mmio() const { return mmio_; }
  PowerDevice& power() { return *power_; }

  // Power-on state of all. The vCPUs are parked.
  void Reset();

 private:
  // The serial port's output, on its way to the console.
  class ConsoleSink : public SerialSink {
   public:
    explicit ConsoleSink(Console* console) : console_(console) {}
    void Write(std::span<const uint8_t> bytes) override { console_->Append(bytes); }

   private:
    Console* const console_;
  };

  // The RTC's timer on the loop. ArmAt: any thread.
  struct RtcTimer {
    RtcTimer(EventLoop* loop, const Clock* clock) : loop(loop), clock(clock) {}
    EventLoop* const loop;
    const Clock* const clock;
    Rtc* rtc = nullptr;
    std::optional<EventLoop::TimerId> armed;
    Mutex mutex;
    int64_t wanted ABSL_GUARDED_BY(mutex) = 0;
    bool posted ABSL_GUARDED_BY(mutex) = false;
  };
  static void ArmRtc(const std::shared_ptr<RtcTimer>& timer, int64_t unix_nanos);
  static void SetRtcTimer(RtcTimer& timer);

  explicit MachineDevices(const Options& options);
  absl::Status MakeLines(Vm& vm);
  void MakeDevices();
  absl::Status Connect();

  const Options options_;
  ConsoleSink sink_;
  std::unique_ptr<IrqLine> serial_line_;
  std::unique_ptr<IrqLine> rtc_line_;
  std::unique_ptr<IrqLine> sci_line_;
  std::shared_ptr<RtcTimer> rtc_timer_;  // posted tasks hold it, and may run late
  std::unique_ptr<SerialPort> serial_;
  std::unique_ptr<I8042> i8042_;
  std::unique_ptr<Rtc> rtc_;
  std::unique_ptr<PowerDevice> power_;
  IoBus ports_;
  IoBus mmio_;
};

}  // namespace drover

#endif  // DROVER_VMM_WORKER_MACHINE_DEVICES_H_
