#ifndef DROVER_DEVICES_IRQ_REGISTER_FUZZ_H_
#define DROVER_DEVICES_IRQ_REGISTER_FUZZ_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <span>

#include "vmm/core/io_bus.h"

namespace drover {

// Turns a fuzzer's input into accesses of 1 to 8 bytes within a device's `port_count` ports, and
// calls of `other` with a byte each (input, timer, button: what the device has besides).
inline void AccessRegisters(std::span<const uint8_t> input, uint64_t port_count, IoDevice& device,
                            const std::function<void(uint8_t)>& other) {
  for (; input.size() >= 3; input = input.subspan(3)) {
    const uint8_t action = input[0], value = input[2];
    const uint64_t offset = input[1] % port_count;
    const uint64_t most = std::min<uint64_t>(port_count - offset, 8);
    const size_t width = static_cast<size_t>(1 + (action >> 2) % most);
    std::array<uint8_t, 8> data;
    data.fill(value);
    if ((action & 3) == 0)
      other(value);
    else if ((action & 3) == 1)
      device.Read(offset, {data.data(), width});
    else
      device.Write(offset, {data.data(), width});
  }
}

}  // namespace drover

#endif  // DROVER_DEVICES_IRQ_REGISTER_FUZZ_H_
