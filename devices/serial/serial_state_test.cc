#include <utility>
#include <vector>

#include "devices/serial/serial.h"
#include "devices/state/device_state_suite.h"
#include "proto/snapshot/v1/device_state.pb.h"

namespace drover {

template <>
struct DeviceStateKit<SerialPort> {
  using Message = snapshot::v1::SerialState;
  static void Use(SerialPort& device, FakeClock&) {
    const std::pair<uint64_t, uint8_t> writes[] = {{3, 0x83}, {0, 1},    {1, 0},    {3, 0x03},
                                                   {2, 0xC7}, {1, 0x05}, {4, 0x0B}, {7, 0x5A}};
    for (const auto& [offset, value] : writes) device.Write(offset, {&value, 1});
    device.Feed(std::vector<uint8_t>(100, 'x'));
  }
  static std::unique_ptr<SerialPort> Make(FakeIrqLine* irq, FakeClock*) {
    return std::make_unique<SerialPort>(SerialPort::Options{.irq = irq});
  }
  static void Spoil(Message* message) { message->set_interrupt_enable(0x10); }
  static constexpr char kSpoiled[] = "interrupt_enable is 0x10: must be only bits of 0xf";
  static constexpr bool kIrq = true;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Serial, DeviceStateTest, SerialPort);

}  // namespace drover
