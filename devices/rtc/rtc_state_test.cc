#include <utility>
#include <vector>

#include "devices/rtc/rtc.h"
#include "devices/state/device_state_suite.h"
#include "proto/snapshot/v1/device_state.pb.h"

namespace drover {

template <>
struct DeviceStateKit<Rtc> {
  using Message = snapshot::v1::RtcState;
  static void Use(Rtc& device, FakeClock& clock) {
    const std::pair<uint8_t, uint8_t> registers[] = {{0x09, 0x38}, {0x40, 0x99}, {0x01, 0xFF},
                                                     {0x03, 0xFF}, {0x05, 0xFF}, {0x0B, 0x32}};
    for (const auto& [index, value] : registers) {
      device.Write(0, {&index, 1});
      device.Write(1, {&value, 1});
    }
    clock.Advance(2'000'000'000);
    device.OnTimer();
  }
  static std::unique_ptr<Rtc> Make(FakeIrqLine* irq, FakeClock* clock) {
    return std::make_unique<Rtc>(Rtc::Options{.clock = clock, .irq = irq});
  }
  static void Spoil(Message* message) { message->set_offset_seconds(INT64_MAX); }
  static constexpr char kSpoiled[] = "offset_seconds is 9223372036854775807: must be -3*10^11";
  static constexpr bool kIrq = true;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Rtc, DeviceStateTest, Rtc);

}  // namespace drover
