// Any register accesses while time passes: no date that a guest writes is undefined behaviour.
#include "devices/irq/fake_irq_line.h"
#include "devices/irq/register_fuzz.h"
#include "devices/rtc/rtc.h"
#include "vmm/base/fake_clock.h"
#include "vmm/base/status.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  drover::FakeClock clock;
  drover::FakeIrqLine irq;
  drover::Rtc rtc({.clock = &clock, .irq = &irq, .arm_timer = [](int64_t) {}});
  drover::AccessRegisters({data, size}, drover::Rtc::kPortCount, rtc, [&](uint8_t n) {
    clock.Advance(n * 100'000'000ll);
    rtc.OnTimer();
  });
  rtc.Reset();
  DROVER_CHECK(!irq.high());
  return 0;
}
