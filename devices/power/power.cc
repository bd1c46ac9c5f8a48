#include "devices/power/power.h"

#include <array>
#include <utility>

#include "proto/snapshot/v1/device_state.pb.h"
#include "vmm/base/status.h"
#include "vmm/core/memory_layout.h"

namespace drover {
namespace {

// The blocks as 16-bit words (ACPI 6.4 §4.8.3.1, §4.8.3.2).
constexpr uint64_t kStatus = 0;
constexpr uint64_t kEnable = 1;
constexpr uint64_t kControl = 2;
constexpr size_t kWords = 3;

// Events: the same bit in the status and in the enable register.
constexpr uint16_t kTimer = 1 << 0;
constexpr uint16_t kGlobalLock = 1 << 5;
constexpr uint16_t kPowerButton = 1 << 8;
constexpr uint16_t kSleepButton = 1 << 9;
constexpr uint16_t kRtc = 1 << 10;
constexpr uint16_t kEvents = kTimer | kGlobalLock | kPowerButton | kSleepButton | kRtc;

constexpr uint16_t kSciEnabled = 1 << 0;
constexpr uint16_t kBusMasterReload = 1 << 1;
constexpr int kSleepTypeShift = 10;
constexpr uint16_t kSleepType = 7 << kSleepTypeShift;
constexpr uint16_t kSleepEnable = 1 << 13;

uint16_t Merge(uint16_t old, uint16_t value, uint16_t mask) {
  return static_cast<uint16_t>((old & ~mask) | (value & mask));
}

}  // namespace

PowerDevice::PowerDevice(Options options) : options_(std::move(options)), sci_(options_.sci) {}

void PowerDevice::Read(uint64_t offset, std::span<uint8_t> data) {
  MutexLock lock(&mutex_);
  const std::array<uint16_t, kWords> words = {state_.status, state_.enable,
                                              static_cast<uint16_t>(state_.control | kSciEnabled)};
  for (size_t i = 0; i < data.size(); ++i) {
    const uint64_t at = offset + i;
    data[i] = at < kPortCount ? static_cast<uint8_t>(words[at / 2] >> (at % 2 * 8)) : 0xFF;
  }
}

void PowerDevice::Write(uint64_t offset, std::span<const uint8_t> data) {
  std::array<uint16_t, kWords> values = {}, masks = {};
  for (size_t i = 0; i < data.size() && offset + i < kPortCount; ++i) {
    const uint64_t at = offset + i;
    values[at / 2] |= static_cast<uint16_t>(data[i] << (at % 2 * 8));
    masks[at / 2] |= static_cast<uint16_t>(0xFF << (at % 2 * 8));
  }
  bool shutdown;
  {
    MutexLock lock(&mutex_);
    state_.status &= static_cast<uint16_t>(~(values[kStatus] & masks[kStatus]));
    state_.enable = Merge(state_.enable, values[kEnable], masks[kEnable]) & kEvents;
    shutdown = WriteControl(values[kControl], masks[kControl]);
    NoteSci();
  }
  sci_.Publish();
  if (shutdown && options_.on_shutdown) options_.on_shutdown();
}

bool PowerDevice::WriteControl(uint16_t value, uint16_t mask) {
  state_.control = Merge(state_.control, value, mask) & (kBusMasterReload | kSleepType);
  return (value & mask & kSleepEnable) != 0 &&
         (state_.control & kSleepType) >> kSleepTypeShift == layout::kSleepTypeS5;
}

std::vector<uint8_t> PowerDevice::SaveState() {
  MutexLock lock(&mutex_);
  snapshot::v1::PowerState out;
  out.set_status(state_.status);
  out.set_enable(state_.enable);
  out.set_control(state_.control);
  return DeviceStateBytes(out);
}

absl::Status PowerDevice::RestoreState(uint32_t version, std::span<const uint8_t> bytes) {
  ASSIGN_OR_RETURN(const auto in,
                   ParseDeviceState<snapshot::v1::PowerState>(*this, version, bytes));
  DeviceStateCheck check(*this);
  const State state = {
      .status = check.Bits("status", in.status(), kEvents),
      .enable = check.Bits("enable", in.enable(), kEvents),
      .control = check.Bits("control", in.control(), uint16_t{kBusMasterReload | kSleepType})};
  RETURN_IF_ERROR(check.status());
  {
    MutexLock lock(&mutex_);
    state_ = state;
    NoteSci();
  }
  sci_.Publish();
  return absl::OkStatus();
}

absl::Status PowerDevice::PressPowerButton() {
  {
    MutexLock lock(&mutex_);
    if ((state_.enable & kPowerButton) == 0)
      return WithReason(absl::FailedPreconditionError(
                            "the guest does not listen to its power button (PWRBTN_EN is off): "
                            "it has no ACPI driver, or has not come so far; stop it by force"),
                        "POWER_BUTTON_IGNORED");
    state_.status |= kPowerButton;
    NoteSci();
  }
  sci_.Publish();
  return absl::OkStatus();
}

void PowerDevice::Reset() {
  {
    MutexLock lock(&mutex_);
    state_ = State{};
    NoteSci();
  }
  sci_.Publish();
}

void PowerDevice::NoteSci() { sci_.Note((state_.status & state_.enable) != 0); }

}  // namespace drover
