#include "vmm/worker/machine_devices.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "vmm/base/status.h"
#include "vmm/core/memory_layout.h"

namespace drover {
namespace {

MachineStop GuestShutdown() {
  return {MachineStop::Kind::kShutdown, "GUEST_SHUTDOWN", "the guest powered off"};
}
MachineStop GuestReset() {
  return {MachineStop::Kind::kReset, "GUEST_RESET", "the guest asked for a reset"};
}

}  // namespace

MachineDevices::MachineDevices(const Options& options)
    : options_(options),
      sink_(options.console),
      rtc_timer_(std::make_shared<RtcTimer>(options.loop, options.clock)) {}

absl::StatusOr<std::unique_ptr<MachineDevices>> MachineDevices::Create(const Options& options) {
  std::unique_ptr<MachineDevices> devices(new MachineDevices(options));
  RETURN_IF_ERROR(devices->MakeLines(*options.vm));
  devices->MakeDevices();
  RETURN_IF_ERROR(devices->Connect());
  return devices;
}

MachineDevices::~MachineDevices() {
  if (serial_ != nullptr) options_.console->SetInput(nullptr);
  rtc_timer_->rtc = nullptr;
  if (rtc_timer_->armed.has_value()) options_.loop->CancelTimer(*rtc_timer_->armed);
}

absl::Status MachineDevices::MakeLines(Vm& vm) {
  ASSIGN_OR_RETURN(serial_line_, vm.MakeIrqLine(layout::kSerialIrq));
  ASSIGN_OR_RETURN(rtc_line_, vm.MakeIrqLine(layout::kRtcIrq));
  ASSIGN_OR_RETURN(sci_line_, vm.MakeIrqLine(layout::kSciIrq));
  return absl::OkStatus();
}

void MachineDevices::MakeDevices() {
  Console* const console = options_.console;
  serial_ = std::make_unique<SerialPort>(SerialPort::Options{
      .irq = serial_line_.get(), .sink = &sink_, .on_room = [console] { console->InputReady(); }});
  console->SetInput(
      [serial = serial_.get()](std::span<const uint8_t> bytes) { return serial->Feed(bytes); });
  i8042_ = std::make_unique<I8042>(
      I8042::Options{.on_reset = [on_stop = options_.on_stop] { on_stop(GuestReset()); }});
  rtc_ = std::make_unique<Rtc>(
      Rtc::Options{.clock = options_.clock,
                   .irq = rtc_line_.get(),
                   .arm_timer = [timer = rtc_timer_](int64_t at) { ArmRtc(timer, at); }});
  rtc_timer_->rtc = rtc_.get();
  power_ = std::make_unique<PowerDevice>(PowerDevice::Options{
      .sci = sci_line_.get(),
      .on_shutdown = [on_stop = options_.on_stop] { on_stop(GuestShutdown()); }});
}

absl::Status MachineDevices::Connect() {
  RETURN_IF_ERROR(ports_.Add(layout::kSerialPort, SerialPort::kPortCount, serial_.get()));
  RETURN_IF_ERROR(ports_.Add(layout::kI8042Port, I8042::kPortCount, i8042_.get()));
  RETURN_IF_ERROR(ports_.Add(layout::kRtcPort, Rtc::kPortCount, rtc_.get()));
  return ports_.Add(layout::kPm1EventPort, PowerDevice::kPortCount, power_.get());
}

void MachineDevices::Reset() {
  serial_->Reset();
  i8042_->Reset();
  rtc_->Reset();
  power_->Reset();
}

// Posts once for any number of requests, so that a guest cannot fill the loop's queue.
void MachineDevices::ArmRtc(const std::shared_ptr<RtcTimer>& timer, int64_t unix_nanos) {
  MutexLock lock(&timer->mutex);
  timer->wanted = unix_nanos;
  if (std::exchange(timer->posted, true)) return;
  timer->loop->Post([timer] { SetRtcTimer(*timer); });
}

void MachineDevices::SetRtcTimer(RtcTimer& timer) {
  int64_t at;
  {
    MutexLock lock(&timer.mutex);
    timer.posted = false;
    at = timer.wanted;
  }
  if (timer.rtc == nullptr) return;
  if (timer.armed.has_value()) timer.loop->CancelTimer(*timer.armed);
  const int64_t delay = std::max<int64_t>(at - timer.clock->UnixNanos(), 0);
  timer.armed = timer.loop->RunAfter(std::chrono::nanoseconds(delay), [&timer] {
    timer.armed.reset();
    if (timer.rtc != nullptr) timer.rtc->OnTimer();
  });
}

}  // namespace drover
