#include <utility>
#include <vector>

#include "devices/i8042/i8042.h"
#include "devices/state/device_state_suite.h"
#include "proto/snapshot/v1/device_state.pb.h"

namespace drover {

template <>
struct DeviceStateKit<I8042> {
  using Message = snapshot::v1::I8042State;
  static void Use(I8042& device, FakeClock&) {
    const std::pair<uint64_t, uint8_t> writes[] = {{4, 0x65}, {0, 0x77}, {4, 0xAA}, {4, 0xD1}};
    for (const auto& [offset, value] : writes) device.Write(offset, {&value, 1});
  }
  static std::unique_ptr<I8042> Make(FakeIrqLine*, FakeClock*) {
    return std::make_unique<I8042>(I8042::Options{});
  }
  static void Spoil(Message* message) { message->set_command(0x33); }
  static constexpr char kSpoiled[] = "command is 0x33: must be 0, 0x60 to 0x7f, or 0xd1 to 0xd4";
  static constexpr bool kIrq = false;
};

INSTANTIATE_TYPED_TEST_SUITE_P(I8042, DeviceStateTest, I8042);

}  // namespace drover
