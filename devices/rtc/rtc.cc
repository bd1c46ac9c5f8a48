#include "devices/rtc/rtc.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "proto/snapshot/v1/device_state.pb.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr uint64_t kIndexPort = 0;  // 0x70
constexpr uint64_t kDataPort = 1;   // 0x71

// Registers (MC146818A data sheet); the century's place is the FADT's.
constexpr uint8_t kSeconds = 0x00;
constexpr uint8_t kSecondsAlarm = 0x01;
constexpr uint8_t kMinutes = 0x02;
constexpr uint8_t kMinutesAlarm = 0x03;
constexpr uint8_t kHours = 0x04;
constexpr uint8_t kHoursAlarm = 0x05;
constexpr uint8_t kWeekday = 0x06;  // 1: Sunday
constexpr uint8_t kDay = 0x07;
constexpr uint8_t kMonth = 0x08;
constexpr uint8_t kYear = 0x09;
constexpr uint8_t kRegisterA = 0x0A;
constexpr uint8_t kRegisterB = 0x0B;
constexpr uint8_t kRegisterC = 0x0C;
constexpr uint8_t kRegisterD = 0x0D;
constexpr uint8_t kCentury = 0x32;
constexpr uint8_t kIndexMask = 0x7F;  // bit 7 masks NMIs

constexpr uint8_t kAUpdateInProgress = 0x80;
constexpr uint8_t kAPowerOn = 0x26;  // 32768 Hz, 1024 Hz periodic rate
constexpr uint8_t kBSet = 0x80;
constexpr uint8_t kBPeriodic = 0x40;
constexpr uint8_t kBAlarm = 0x20;
constexpr uint8_t kBUpdateEnded = 0x10;
constexpr uint8_t kBSquareWave = 0x08;
constexpr uint8_t kBBinary = 0x04;
constexpr uint8_t kB24Hours = 0x02;
constexpr uint8_t kCIrq = 0x80;
constexpr uint8_t kCAlarm = 0x20;
constexpr uint8_t kCUpdateEnded = 0x10;
constexpr uint8_t kDValid = 0x80;
constexpr uint8_t kPm = 0x80;        // of an hour in 12-hour mode
constexpr uint8_t kAnyAlarm = 0xC0;  // an alarm byte with both bits matches always

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kSecondsPerDay = 86400;
constexpr int64_t kMostSeconds = 300'000'000'000;  // of a restored state: no sum of it wraps
// UIP is on for this long before the time changes.
constexpr int64_t kUpdateNanos = 244'000;

bool IsTime(uint8_t index) {
  return index == kSeconds || index == kMinutes || index == kHours ||
         (index >= kWeekday && index <= kYear) || index == kCentury;
}

int64_t FloorMod(int64_t value, int64_t divisor) { return ((value % divisor) + divisor) % divisor; }

bool Matches(uint8_t alarm, uint8_t now) {
  return (alarm & kAnyAlarm) == kAnyAlarm || alarm == now;
}

}  // namespace

Rtc::Rtc(Options options) : options_(std::move(options)), irq_(options_.irq) {
  MutexLock lock(&mutex_);
  state_.cmos[kRegisterA] = kAPowerOn;
  state_.cmos[kRegisterB] = kB24Hours;
  state_.flags_second = ClockSecond();
}

void Rtc::Read(uint64_t offset, std::span<uint8_t> data) {
  {
    MutexLock lock(&mutex_);
    for (size_t i = 0; i < data.size(); ++i) data[i] = offset + i == kDataPort ? ReadData() : 0xFF;
  }
  irq_.Publish();
}

void Rtc::Write(uint64_t offset, std::span<const uint8_t> data) {
  int64_t timer = 0;
  {
    MutexLock lock(&mutex_);
    for (size_t i = 0; i < data.size(); ++i) {
      if (offset + i == kIndexPort) state_.index = data[i] & kIndexMask;
      if (offset + i != kDataPort) continue;
      WriteData(data[i]);
      if (state_.index == kRegisterB) timer = NextTimer();
    }
  }
  Finish(timer);
}

void Rtc::OnTimer() {
  int64_t timer;
  {
    MutexLock lock(&mutex_);
    AdvanceFlags();
    NoteIrq();
    timer = NextTimer();
  }
  Finish(timer);
}

void Rtc::Reset() {
  {
    MutexLock lock(&mutex_);
    state_.index = 0;
    state_.cmos[kRegisterB] &=
        static_cast<uint8_t>(~(kBPeriodic | kBAlarm | kBUpdateEnded | kBSquareWave));
    TakeRegisterC();
  }
  irq_.Publish();
}

std::vector<uint8_t> Rtc::SaveState() {
  MutexLock lock(&mutex_);
  snapshot::v1::RtcState out;
  out.set_index(state_.index);
  out.set_cmos(std::string(state_.cmos.begin(), state_.cmos.end()));
  out.set_offset_seconds(state_.offset_seconds);
  out.set_flags_second(state_.flags_second);
  return DeviceStateBytes(out);
}

absl::Status Rtc::RestoreState(uint32_t version, std::span<const uint8_t> bytes) {
  ASSIGN_OR_RETURN(const auto in, ParseDeviceState<snapshot::v1::RtcState>(*this, version, bytes));
  DeviceStateCheck check(*this);
  State state = {.index = check.Bits("index", in.index(), kIndexMask),
                 .offset_seconds = in.offset_seconds(),
                 .flags_second = in.flags_second()};
  check.Size("cmos", in.cmos().size(), state.cmos.size(), state.cmos.size());
  for (const auto& [name, seconds] : {std::pair{"offset_seconds", in.offset_seconds()},
                                      std::pair{"flags_second", in.flags_second()}})
    check.Check(seconds >= -kMostSeconds && seconds <= kMostSeconds, name,
                absl::StrFormat("%d", seconds), "-3*10^11 to 3*10^11");
  RETURN_IF_ERROR(check.status());
  std::copy(in.cmos().begin(), in.cmos().end(), state.cmos.begin());
  int64_t timer;
  {
    MutexLock lock(&mutex_);
    state_ = state;
    NoteIrq();
    timer = NextTimer();
  }
  Finish(timer);
  return absl::OkStatus();
}

void Rtc::Finish(int64_t timer) {
  irq_.Publish();
  if (timer != 0 && options_.arm_timer) options_.arm_timer(timer);
}

uint8_t Rtc::ReadData() {
  const uint8_t index = state_.index;
  if (IsTime(index) && !Is(kBSet)) StoreTime();
  switch (index) {
    case kRegisterA:
      return state_.cmos[kRegisterA] | (UpdateInProgress() ? kAUpdateInProgress : 0);
    case kRegisterC:
      return TakeRegisterC();
    case kRegisterD:
      return kDValid;
    default:
      return state_.cmos[index];
  }
}

void Rtc::WriteData(uint8_t value) {
  const uint8_t index = state_.index;
  if (index == kRegisterB) return WriteRegisterB(value);
  if (index == kRegisterC || index == kRegisterD) return;
  if (index == kRegisterA) value &= static_cast<uint8_t>(~kAUpdateInProgress);
  const bool running_time = IsTime(index) && !Is(kBSet);
  if (running_time) StoreTime();
  AdvanceFlags();
  state_.cmos[index] = value;
  if (running_time) TakeTime();
  NoteIrq();
}

// SET stops the time while it is written, and switches the update interrupt off.
void Rtc::WriteRegisterB(uint8_t value) {
  AdvanceFlags();
  const bool was_set = Is(kBSet);
  if ((value & kBSet) != 0) value &= static_cast<uint8_t>(~kBUpdateEnded);
  if (!was_set && (value & kBSet) != 0) StoreTime();
  state_.cmos[kRegisterB] = value;
  if (was_set && !Is(kBSet)) TakeTime();
  NoteIrq();
}

uint8_t Rtc::TakeRegisterC() {
  AdvanceFlags();
  NoteIrq();
  const uint8_t flags = std::exchange(state_.cmos[kRegisterC], 0);
  NoteIrq();
  return flags;
}

bool Rtc::UpdateInProgress() const {
  return !Is(kBSet) && FloorMod(options_.clock->UnixNanos(), kSecond) >= kSecond - kUpdateNanos;
}

bool Rtc::Is(uint8_t register_b_bit) const {
  return (state_.cmos[kRegisterB] & register_b_bit) != 0;
}

uint8_t Rtc::Encode(int value) const {
  return static_cast<uint8_t>(Is(kBBinary) ? value : value / 10 * 16 + value % 10);
}

int Rtc::Decode(uint8_t value) const {
  return Is(kBBinary) ? value : (value >> 4) * 10 + (value & 0xF);
}

uint8_t Rtc::EncodeHour(int hour) const {
  if (Is(kB24Hours)) return Encode(hour);
  const int twelve = hour % 12 == 0 ? 12 : hour % 12;
  return Encode(twelve) | (hour >= 12 ? kPm : 0);
}

int Rtc::DecodeHour(uint8_t value) const {
  if (Is(kB24Hours)) return Decode(value);
  return Decode(value & static_cast<uint8_t>(~kPm)) % 12 + ((value & kPm) != 0 ? 12 : 0);
}

int64_t Rtc::ClockSecond() const {
  const int64_t now = options_.clock->UnixNanos();
  return (now - FloorMod(now, kSecond)) / kSecond;
}

// std::chrono's calendar and not the C library's, which reads the time zone's file.
void Rtc::StoreTime() {
  const int64_t second = ClockSecond() + state_.offset_seconds;
  const int of_day = static_cast<int>(FloorMod(second, kSecondsPerDay));
  const std::chrono::sys_days days{std::chrono::days((second - of_day) / kSecondsPerDay)};
  const std::chrono::year_month_day date(days);
  const int year = static_cast<int>(FloorMod(static_cast<int>(date.year()), 10000));
  state_.cmos[kSeconds] = Encode(of_day % 60);
  state_.cmos[kMinutes] = Encode(of_day / 60 % 60);
  state_.cmos[kHours] = EncodeHour(of_day / 3600);
  state_.cmos[kWeekday] = Encode(static_cast<int>(std::chrono::weekday(days).c_encoding()) + 1);
  state_.cmos[kDay] = Encode(static_cast<int>(static_cast<unsigned>(date.day())));
  state_.cmos[kMonth] = Encode(static_cast<int>(static_cast<unsigned>(date.month())));
  state_.cmos[kYear] = Encode(year % 100);
  state_.cmos[kCentury] = Encode(year / 100);
}

// Any bytes make some time: guest-controlled values are clamped to what a date can have.
void Rtc::TakeTime() {
  const int year = Decode(state_.cmos[kCentury]) * 100 + Decode(state_.cmos[kYear]);
  const int month = std::clamp(Decode(state_.cmos[kMonth]), 1, 12);
  const int day = std::clamp(Decode(state_.cmos[kDay]), 1, 31);
  const std::chrono::sys_days month_begin = std::chrono::year_month_day(
      std::chrono::year(std::min(year, 9999)), std::chrono::month(static_cast<unsigned>(month)),
      std::chrono::day(1));
  const int64_t second = (month_begin.time_since_epoch().count() + day - 1) * kSecondsPerDay +
                         DecodeHour(state_.cmos[kHours]) * 3600 +
                         Decode(state_.cmos[kMinutes]) * 60 + Decode(state_.cmos[kSeconds]);
  state_.offset_seconds = second - ClockSecond();
}

bool Rtc::AlarmMatches(int64_t clock_second) const {
  const int of_day =
      static_cast<int>(FloorMod(clock_second + state_.offset_seconds, kSecondsPerDay));
  return Matches(state_.cmos[kSecondsAlarm], Encode(of_day % 60)) &&
         Matches(state_.cmos[kMinutesAlarm], Encode(of_day / 60 % 60)) &&
         Matches(state_.cmos[kHoursAlarm], EncodeHour(of_day / 3600));
}

void Rtc::AdvanceFlags() {
  const int64_t now = ClockSecond();
  const int64_t from = std::max(std::exchange(state_.flags_second, now), now - kSecondsPerDay);
  if (Is(kBSet) || from >= now) return;
  state_.cmos[kRegisterC] |= kCUpdateEnded;
  for (int64_t second = from + 1; second <= now; ++second) {
    if (!AlarmMatches(second)) continue;
    state_.cmos[kRegisterC] |= kCAlarm;
    return;
  }
}

void Rtc::NoteIrq() {
  uint8_t& flags = state_.cmos[kRegisterC];
  const bool on = (flags & state_.cmos[kRegisterB] & (kCAlarm | kCUpdateEnded)) != 0;
  flags = static_cast<uint8_t>(on ? flags | kCIrq : flags & ~kCIrq);
  irq_.Note(on);
}

int64_t Rtc::NextTimer() const {
  if (Is(kBSet) || !(Is(kBAlarm) || Is(kBUpdateEnded))) return 0;
  return (ClockSecond() + 1) * kSecond;
}

}  // namespace drover
