// Any register accesses and button presses: Reset always lowers the SCI.
#include "devices/irq/fake_irq_line.h"
#include "devices/irq/register_fuzz.h"
#include "devices/power/power.h"
#include "vmm/base/status.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  drover::FakeIrqLine sci;
  drover::PowerDevice power({.sci = &sci, .on_shutdown = [] {}});
  drover::AccessRegisters({data, size}, drover::PowerDevice::kPortCount, power, [&](uint8_t) {
    if (power.PressPowerButton().ok()) DROVER_CHECK(sci.high());
  });
  power.Reset();
  DROVER_CHECK(!sci.high());
  return 0;
}
