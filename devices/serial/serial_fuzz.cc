// Any register accesses and input: the port answers, keeps its bounds, and Reset restores it.
#include <array>

#include "devices/irq/fake_irq_line.h"
#include "devices/irq/register_fuzz.h"
#include "devices/serial/serial.h"
#include "vmm/base/status.h"

namespace {

class CountingSink : public drover::SerialSink {
 public:
  void Write(std::span<const uint8_t> bytes) override { count += bytes.size(); }
  size_t count = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  drover::FakeIrqLine irq;
  CountingSink sink;
  drover::SerialPort port({.irq = &irq, .sink = &sink, .on_room = [] {}});
  const std::array<uint8_t, 256> input = {};
  drover::AccessRegisters({data, size}, drover::SerialPort::kPortCount, port, [&](uint8_t n) {
    DROVER_CHECK(port.Feed({input.data(), n}) <= n);
  });
  DROVER_CHECK(sink.count <= size / 3 * 8);
  port.Reset();
  DROVER_CHECK(!irq.high());
  return 0;
}
