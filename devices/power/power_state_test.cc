#include <utility>
#include <vector>

#include "devices/power/power.h"
#include "devices/state/device_state_suite.h"
#include "proto/snapshot/v1/device_state.pb.h"

namespace drover {

template <>
struct DeviceStateKit<PowerDevice> {
  using Message = snapshot::v1::PowerState;
  static void Use(PowerDevice& device, FakeClock&) {
    const uint8_t enable[] = {0x00, 0x01};
    device.Write(2, enable);
    ASSERT_OK(device.PressPowerButton());
  }
  static std::unique_ptr<PowerDevice> Make(FakeIrqLine* irq, FakeClock*) {
    return std::make_unique<PowerDevice>(PowerDevice::Options{.sci = irq});
  }
  static void Spoil(Message* message) { message->set_enable(0x10000); }
  static constexpr char kSpoiled[] = "enable is 0x10000: must be only bits of 0x721";
  static constexpr bool kIrq = true;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Power, DeviceStateTest, PowerDevice);

}  // namespace drover
