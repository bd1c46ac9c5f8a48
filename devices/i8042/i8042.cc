#include "devices/i8042/i8042.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "proto/snapshot/v1/device_state.pb.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr uint64_t kDataPort = 0;     // 0x60
constexpr uint64_t kCommandPort = 4;  // 0x64; reads the status

constexpr uint8_t kStatusOutputFull = 1 << 0;
constexpr uint8_t kStatusSystem = 1 << 2;  // the self-test passed
constexpr uint8_t kStatusCommand = 1 << 3;
constexpr uint8_t kStatusUnlocked = 1 << 4;

constexpr uint8_t kKeyboardDisabled = 1 << 4;  // of the command byte
constexpr uint8_t kAuxDisabled = 1 << 5;

constexpr uint8_t kReadRam = 0x20;   // to 0x3F
constexpr uint8_t kWriteRam = 0x60;  // to 0x7F; takes a data byte
constexpr uint8_t kDisableAux = 0xA7;
constexpr uint8_t kEnableAux = 0xA8;
constexpr uint8_t kTestAux = 0xA9;
constexpr uint8_t kSelfTest = 0xAA;
constexpr uint8_t kTestKeyboard = 0xAB;
constexpr uint8_t kDisableKeyboard = 0xAD;
constexpr uint8_t kEnableKeyboard = 0xAE;
constexpr uint8_t kReadOutputPort = 0xD0;
constexpr uint8_t kWriteOutputPort = 0xD1;  // this and the next take a data byte
constexpr uint8_t kWriteKeyboardData = 0xD2;
constexpr uint8_t kWriteAuxData = 0xD3;
constexpr uint8_t kWriteAux = 0xD4;
constexpr uint8_t kPulse = 0xF0;  // to 0xFF: pulses low the output port's bits that are 0

constexpr uint8_t kSelfTestPassed = 0x55;
constexpr uint8_t kTestPassed = 0x00;
constexpr uint8_t kClockStuckLow = 0x01;   // no such port
constexpr uint8_t kOutputPortIdle = 0x03;  // not in reset, A20 on
constexpr uint8_t kNotReset = 1 << 0;      // output port, active low

// The command waits for a byte at the data port.
bool TakesData(uint8_t command) {
  return (command & 0xE0) == kWriteRam || (command >= kWriteOutputPort && command <= kWriteAux);
}

}  // namespace

I8042::I8042(Options options) : options_(std::move(options)) {}

void I8042::Read(uint64_t offset, std::span<uint8_t> data) {
  MutexLock lock(&mutex_);
  for (size_t i = 0; i < data.size(); ++i) data[i] = ReadPort(offset + i);
}

void I8042::Write(uint64_t offset, std::span<const uint8_t> data) {
  bool reset = false;
  {
    MutexLock lock(&mutex_);
    for (size_t i = 0; i < data.size(); ++i) reset |= WritePort(offset + i, data[i]);
  }
  if (reset && options_.on_reset) options_.on_reset();
}

void I8042::Reset() {
  MutexLock lock(&mutex_);
  state_ = State{};
}

std::vector<uint8_t> I8042::SaveState() {
  MutexLock lock(&mutex_);
  snapshot::v1::I8042State out;
  out.set_ram(std::string(state_.ram.begin(), state_.ram.end()));
  out.set_output(state_.output);
  out.set_output_full(state_.output_full);
  out.set_command(state_.command);
  out.set_last_write_was_command(state_.last_write_was_command);
  return DeviceStateBytes(out);
}

absl::Status I8042::RestoreState(uint32_t version, std::span<const uint8_t> bytes) {
  ASSIGN_OR_RETURN(const auto in,
                   ParseDeviceState<snapshot::v1::I8042State>(*this, version, bytes));
  DeviceStateCheck check(*this);
  State state = {.output = check.Bits("output", in.output(), uint8_t{0xFF}),
                 .output_full = in.output_full(),
                 .command = check.Bits("command", in.command(), uint8_t{0xFF}),
                 .last_write_was_command = in.last_write_was_command()};
  check.Check(state.command == 0 || TakesData(state.command), "command",
              absl::StrFormat("%#x", state.command), "0, 0x60 to 0x7f, or 0xd1 to 0xd4");
  check.Size("ram", in.ram().size(), state.ram.size(), state.ram.size());
  RETURN_IF_ERROR(check.status());
  std::copy(in.ram().begin(), in.ram().end(), state.ram.begin());
  MutexLock lock(&mutex_);
  state_ = state;
  return absl::OkStatus();
}

uint8_t I8042::ReadPort(uint64_t offset) {
  if (offset == kDataPort) {
    state_.output_full = false;
    return state_.output;
  }
  if (offset != kCommandPort) return 0xFF;
  uint8_t status = kStatusSystem | kStatusUnlocked;
  if (state_.output_full) status |= kStatusOutputFull;
  if (state_.last_write_was_command) status |= kStatusCommand;
  return status;
}

bool I8042::WritePort(uint64_t offset, uint8_t value) {
  if (offset != kDataPort && offset != kCommandPort) return false;
  state_.last_write_was_command = offset == kCommandPort;
  return offset == kCommandPort ? RunCommand(value) : TakeData(value);
}

bool I8042::RunCommand(uint8_t command) {
  state_.command = 0;
  if (command >= kPulse) return (command & kNotReset) == 0;
  if ((command & 0xE0) == kReadRam) Answer(state_.ram[command & 0x1F]);
  if (TakesData(command)) state_.command = command;
  switch (command) {
    case kDisableAux:
      state_.ram[0] |= kAuxDisabled;
      break;
    case kEnableAux:
      state_.ram[0] &= static_cast<uint8_t>(~kAuxDisabled);
      break;
    case kTestAux:
      Answer(kClockStuckLow);
      break;
    case kSelfTest:
      Answer(kSelfTestPassed);
      break;
    case kTestKeyboard:
      Answer(kTestPassed);
      break;
    case kDisableKeyboard:
      state_.ram[0] |= kKeyboardDisabled;
      break;
    case kEnableKeyboard:
      state_.ram[0] &= static_cast<uint8_t>(~kKeyboardDisabled);
      break;
    case kReadOutputPort:
      Answer(kOutputPortIdle);
      break;
    default:
      break;
  }
  return false;
}

// A byte without a command, or for the mouse, goes to a device that is not there.
bool I8042::TakeData(uint8_t value) {
  const uint8_t command = std::exchange(state_.command, 0);
  if ((command & 0xE0) == kWriteRam) state_.ram[command & 0x1F] = value;
  if (command == kWriteKeyboardData || command == kWriteAuxData) Answer(value);
  return command == kWriteOutputPort && (value & kNotReset) == 0;
}

void I8042::Answer(uint8_t value) {
  state_.output = value;
  state_.output_full = true;
}

}  // namespace drover
