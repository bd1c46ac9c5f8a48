// Any register accesses: the controller answers.
#include "devices/i8042/i8042.h"
#include "devices/irq/register_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  drover::I8042 controller({.on_reset = [] {}});
  drover::AccessRegisters({data, size}, drover::I8042::kPortCount, controller,
                          [&](uint8_t) { controller.Reset(); });
  return 0;
}
