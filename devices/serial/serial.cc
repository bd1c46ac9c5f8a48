#include "devices/serial/serial.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "proto/snapshot/v1/device_state.pb.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

// Registers by offset (PC16550D table II); with DLAB, 0 and 1 are the divisor.
constexpr uint64_t kData = 0;
constexpr uint64_t kInterruptEnable = 1;
constexpr uint64_t kInterruptId = 2;  // read
constexpr uint64_t kFifoControl = 2;  // write
constexpr uint64_t kLineControl = 3;
constexpr uint64_t kModemControl = 4;
constexpr uint64_t kLineStatus = 5;
constexpr uint64_t kModemStatus = 6;
constexpr uint64_t kScratch = 7;

constexpr uint8_t kIerReceived = 1 << 0;
constexpr uint8_t kIerTransmitEmpty = 1 << 1;
constexpr uint8_t kIerLineStatus = 1 << 2;
constexpr uint8_t kIerModemStatus = 1 << 3;
constexpr uint8_t kIerAll = 0x0F;

constexpr uint8_t kIirModemStatus = 0x00;
constexpr uint8_t kIirNone = 0x01;
constexpr uint8_t kIirTransmitEmpty = 0x02;
constexpr uint8_t kIirReceived = 0x04;
constexpr uint8_t kIirLineStatus = 0x06;
constexpr uint8_t kIirTimeout = 0x0C;  // data below the trigger level
constexpr uint8_t kIirFifoEnabled = 0xC0;

constexpr uint8_t kFcrEnable = 1 << 0;
constexpr uint8_t kFcrClearReceive = 1 << 1;
constexpr uint8_t kFcrTrigger = 0xC0;

constexpr uint8_t kLcrDivisorLatch = 1 << 7;

constexpr uint8_t kMcrDtr = 1 << 0;
constexpr uint8_t kMcrRts = 1 << 1;
constexpr uint8_t kMcrOut1 = 1 << 2;
constexpr uint8_t kMcrOut2 = 1 << 3;
constexpr uint8_t kMcrLoopback = 1 << 4;
constexpr uint8_t kMcrAll = 0x1F;

constexpr uint8_t kLsrDataReady = 1 << 0;
constexpr uint8_t kLsrOverrun = 1 << 1;
constexpr uint8_t kLsrTransmitEmpty = 0x60;  // THRE and TEMT

constexpr uint8_t kMsrCts = 1 << 4;
constexpr uint8_t kMsrDsr = 1 << 5;
constexpr uint8_t kMsrRi = 1 << 6;
constexpr uint8_t kMsrDcd = 1 << 7;

constexpr size_t kFifoSize = 16;

size_t FifoCapacity(uint8_t fifo_control) {
  return (fifo_control & kFcrEnable) != 0 ? kFifoSize : 1;
}

size_t TriggerLevel(uint8_t fifo_control) {
  constexpr size_t kLevels[] = {1, 4, 8, 14};
  return (fifo_control & kFcrEnable) != 0 ? kLevels[fifo_control >> 6] : 1;
}

// The modem status lines: a terminal that is always there, or the control lines looped back.
uint8_t ModemLines(uint8_t modem_control) {
  if ((modem_control & kMcrLoopback) == 0) return kMsrCts | kMsrDsr | kMsrDcd;
  uint8_t lines = 0;
  if ((modem_control & kMcrRts) != 0) lines |= kMsrCts;
  if ((modem_control & kMcrDtr) != 0) lines |= kMsrDsr;
  if ((modem_control & kMcrOut1) != 0) lines |= kMsrRi;
  if ((modem_control & kMcrOut2) != 0) lines |= kMsrDcd;
  return lines;
}

// MSR bits 0 to 3 for a change of the lines; the ring indicator counts only when it ends.
uint8_t ModemDelta(uint8_t before, uint8_t after) {
  const uint8_t changed = before ^ after;
  const uint8_t ring_ended = before & static_cast<uint8_t>(~after) & kMsrRi;
  return static_cast<uint8_t>(((changed & static_cast<uint8_t>(~kMsrRi)) | ring_ended) >> 4);
}

}  // namespace

struct SerialPort::Effects {
  std::array<uint8_t, kPortCount> sent;
  size_t sent_count = 0;
  bool room = false;
};

SerialPort::SerialPort(Options options) : options_(std::move(options)), irq_(options_.irq) {}

void SerialPort::Read(uint64_t offset, std::span<uint8_t> data) {
  Effects effects;
  {
    MutexLock lock(&mutex_);
    for (size_t i = 0; i < data.size(); ++i) data[i] = ReadRegister(offset + i, &effects);
  }
  Finish(effects);
}

void SerialPort::Write(uint64_t offset, std::span<const uint8_t> data) {
  Effects effects;
  {
    MutexLock lock(&mutex_);
    for (size_t i = 0; i < data.size(); ++i) WriteRegister(offset + i, data[i], &effects);
  }
  Finish(effects);
}

void SerialPort::Finish(const Effects& effects) {
  if (effects.sent_count != 0 && options_.sink != nullptr)
    options_.sink->Write({effects.sent.data(), effects.sent_count});
  irq_.Publish();
  if (effects.room && options_.on_room) options_.on_room();
}

size_t SerialPort::Feed(std::span<const uint8_t> bytes) {
  Effects effects;
  size_t taken;
  {
    MutexLock lock(&mutex_);
    const size_t held = state_.receive_fifo.size() + state_.backlog.size();
    taken = std::min(bytes.size(), kInputCapacity - std::min(held, kInputCapacity));
    state_.backlog.insert(state_.backlog.end(), bytes.begin(),
                          bytes.begin() + static_cast<std::ptrdiff_t>(taken));
    RefillFifo(&effects);
    feeder_waits_ = taken < bytes.size();
    UpdateIrq();
  }
  irq_.Publish();
  return taken;
}

void SerialPort::Reset() {
  Effects effects;
  {
    MutexLock lock(&mutex_);
    state_ = State{};
    RefillFifo(&effects);
    UpdateIrq();
  }
  Finish(effects);
}

std::vector<uint8_t> SerialPort::SaveState() {
  MutexLock lock(&mutex_);
  snapshot::v1::SerialState out;
  out.set_interrupt_enable(state_.interrupt_enable);
  out.set_fifo_control(state_.fifo_control);
  out.set_line_control(state_.line_control);
  out.set_modem_control(state_.modem_control);
  out.set_modem_delta(state_.modem_delta);
  out.set_scratch(state_.scratch);
  out.set_divisor(state_.divisor);
  out.set_transmit_interrupt(state_.transmit_interrupt);
  out.set_overrun(state_.overrun);
  out.set_receive_fifo(std::string(state_.receive_fifo.begin(), state_.receive_fifo.end()));
  out.set_backlog(std::string(state_.backlog.begin(), state_.backlog.end()));
  return DeviceStateBytes(out);
}

absl::Status SerialPort::RestoreState(uint32_t version, std::span<const uint8_t> bytes) {
  ASSIGN_OR_RETURN(const auto in,
                   ParseDeviceState<snapshot::v1::SerialState>(*this, version, bytes));
  DeviceStateCheck check(*this);
  const uint8_t fifo_bits = (in.fifo_control() & kFcrEnable) != 0 ? kFcrEnable | kFcrTrigger : 0;
  State state = {.interrupt_enable = check.Bits("interrupt_enable", in.interrupt_enable(), kIerAll),
                 .fifo_control = check.Bits("fifo_control", in.fifo_control(), fifo_bits),
                 .line_control = check.Bits("line_control", in.line_control(), uint8_t{0xFF}),
                 .modem_control = check.Bits("modem_control", in.modem_control(), kMcrAll),
                 .modem_delta = check.Bits("modem_delta", in.modem_delta(), uint8_t{0x0F}),
                 .scratch = check.Bits("scratch", in.scratch(), uint8_t{0xFF}),
                 .divisor = check.Bits("divisor", in.divisor(), uint16_t{0xFFFF}),
                 .transmit_interrupt = in.transmit_interrupt(),
                 .overrun = in.overrun(),
                 .receive_fifo = {in.receive_fifo().begin(), in.receive_fifo().end()},
                 .backlog = {in.backlog().begin(), in.backlog().end()}};
  check.Size("receive_fifo", state.receive_fifo.size(), 0, FifoCapacity(state.fifo_control));
  check.Size("backlog", state.backlog.size(), 0, kInputCapacity - state.receive_fifo.size());
  RETURN_IF_ERROR(check.status());
  Effects effects;
  {
    MutexLock lock(&mutex_);
    state_ = std::move(state);
    RefillFifo(&effects);
    UpdateIrq();
  }
  Finish(effects);
  return absl::OkStatus();
}

uint8_t SerialPort::ReadRegister(uint64_t offset, Effects* effects) {
  const bool divisor = (state_.line_control & kLcrDivisorLatch) != 0;
  switch (offset) {
    case kData:
      return divisor ? static_cast<uint8_t>(state_.divisor) : ReadReceived(effects);
    case kInterruptEnable:
      return divisor ? static_cast<uint8_t>(state_.divisor >> 8) : state_.interrupt_enable;
    case kInterruptId:
      return ReadInterruptId();
    case kLineControl:
      return state_.line_control;
    case kModemControl:
      return state_.modem_control;
    case kLineStatus:
      return ReadLineStatus();
    case kModemStatus:
      return ReadModemStatus();
    case kScratch:
      return state_.scratch;
    default:
      return 0xFF;
  }
}

void SerialPort::WriteRegister(uint64_t offset, uint8_t value, Effects* effects) {
  const bool divisor = (state_.line_control & kLcrDivisorLatch) != 0;
  switch (offset) {
    case kData:
      if (divisor)
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0xFF00) | value);
      else
        Transmit(value, effects);
      break;
    case kInterruptEnable:
      if (divisor)
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0x00FF) | value << 8);
      else
        SetInterruptEnable(value);
      break;
    case kFifoControl:
      SetFifoControl(value, effects);
      break;
    case kLineControl:
      state_.line_control = value;
      break;
    case kModemControl:
      SetModemControl(value);
      break;
    case kScratch:
      state_.scratch = value;
      break;
    default:  // the status registers are read-only
      break;
  }
}

uint8_t SerialPort::ReadReceived(Effects* effects) {
  if (state_.receive_fifo.empty()) return 0;
  const uint8_t value = state_.receive_fifo.front();
  state_.receive_fifo.pop_front();
  RefillFifo(effects);
  UpdateIrq();
  return value;
}

uint8_t SerialPort::ReadInterruptId() {
  const uint8_t id = InterruptId();
  if (id == kIirTransmitEmpty) state_.transmit_interrupt = false;
  UpdateIrq();
  return (state_.fifo_control & kFcrEnable) != 0 ? id | kIirFifoEnabled : id;
}

uint8_t SerialPort::ReadLineStatus() {
  uint8_t status = kLsrTransmitEmpty;
  if (!state_.receive_fifo.empty()) status |= kLsrDataReady;
  if (std::exchange(state_.overrun, false)) status |= kLsrOverrun;
  UpdateIrq();
  return status;
}

uint8_t SerialPort::ReadModemStatus() {
  const uint8_t delta = std::exchange(state_.modem_delta, 0);
  UpdateIrq();
  return ModemLines(state_.modem_control) | delta;
}

void SerialPort::Transmit(uint8_t value, Effects* effects) {
  if (!Loopback()) {
    if (effects->sent_count < effects->sent.size()) effects->sent[effects->sent_count++] = value;
  } else if (state_.receive_fifo.size() < FifoCapacity(state_.fifo_control)) {
    state_.receive_fifo.push_back(value);
  } else {
    state_.overrun = true;
  }
  // The register is full for no time at all, then empty again: an edge for who waits for one.
  state_.transmit_interrupt = false;
  UpdateIrq();
  state_.transmit_interrupt = true;
  UpdateIrq();
}

void SerialPort::SetInterruptEnable(uint8_t value) {
  const uint8_t turned_on = value & static_cast<uint8_t>(~state_.interrupt_enable);
  state_.interrupt_enable = value & kIerAll;
  if ((turned_on & kIerTransmitEmpty) != 0) state_.transmit_interrupt = true;
  UpdateIrq();
}

void SerialPort::SetFifoControl(uint8_t value, Effects* effects) {
  const bool switched = ((value ^ state_.fifo_control) & kFcrEnable) != 0;
  const bool enabled = (value & kFcrEnable) != 0;
  state_.fifo_control = enabled ? value & (kFcrEnable | kFcrTrigger) : 0;
  if (switched || (enabled && (value & kFcrClearReceive) != 0)) state_.receive_fifo.clear();
  RefillFifo(effects);
  UpdateIrq();
}

void SerialPort::SetModemControl(uint8_t value) {
  const uint8_t before = ModemLines(state_.modem_control);
  state_.modem_control = value & kMcrAll;
  state_.modem_delta |= ModemDelta(before, ModemLines(state_.modem_control));
  UpdateIrq();
}

bool SerialPort::Loopback() const { return (state_.modem_control & kMcrLoopback) != 0; }

// By priority (PC16550D table III).
uint8_t SerialPort::InterruptId() const {
  const uint8_t enabled = state_.interrupt_enable;
  if ((enabled & kIerLineStatus) != 0 && state_.overrun) return kIirLineStatus;
  if ((enabled & kIerReceived) != 0 && !state_.receive_fifo.empty())
    return state_.receive_fifo.size() >= TriggerLevel(state_.fifo_control) ? kIirReceived
                                                                           : kIirTimeout;
  if ((enabled & kIerTransmitEmpty) != 0 && state_.transmit_interrupt) return kIirTransmitEmpty;
  if ((enabled & kIerModemStatus) != 0 && state_.modem_delta != 0) return kIirModemStatus;
  return kIirNone;
}

// While looped back, the wire is cut off: what waits stays in the queue.
void SerialPort::RefillFifo(Effects* effects) {
  while (!Loopback() && !state_.backlog.empty() &&
         state_.receive_fifo.size() < FifoCapacity(state_.fifo_control)) {
    state_.receive_fifo.push_back(state_.backlog.front());
    state_.backlog.pop_front();
  }
  const size_t held = state_.receive_fifo.size() + state_.backlog.size();
  if (feeder_waits_ && held <= kInputCapacity / 2) {
    feeder_waits_ = false;
    effects->room = true;
  }
}

void SerialPort::UpdateIrq() { irq_.Note(InterruptId() != kIirNone); }

}  // namespace drover
