#include "e2e/guest/acpi.h"
#include "e2e/guest/clock.h"
#include "e2e/guest/command_table.h"
#include "e2e/guest/console.h"
#include "e2e/guest/cpus.h"

namespace guest {
namespace {

// A VMM may take a while over what it was asked for, and run the guest meanwhile.
void Wait(uint64_t ms) {
  const uint64_t end = Tsc() + MsToCycles(ms);
  while (static_cast<int64_t>(Tsc() - end) < 0) {
  }
}

}  // namespace

void Halt(Arguments&) {
  ParkCpus(true);
  Print("ok halt\n");
  SetReceiveInterrupt(false);
  Ring0(Ring0Function::kHalt);
}

// The FADT's way; then QEMU's ports for tables that name none; then a reset, which some VMMs take
// for the end.
void PowerOff(Arguments&) {
  Print("ok poweroff\n");
  AcpiPowerOff();
  Wait(500);
  Out16(0x604, 0x2000);
  Out16(0xb004, 0x2000);
  Wait(500);
  Out8(0x64, 0xfe);
  Wait(500);
  Print("fault poweroff did not work\n");
}

void Reset(Arguments&) {
  Print("ok reset\n");
  Out8(0x64, 0xfe);
  Wait(500);
  AcpiReset();
  Wait(500);
  Print("fault reset did not work\n");
}

void TripleFault(Arguments&) {
  Print("ok triple-fault\n");
  Ring0(Ring0Function::kDropIdt);
  asm volatile("ud2");
}

void Spin(Arguments&) {
  Print("ok spin\n");
  for (;;) gap_meter.Sample();
}

void Fault(Arguments&) {
  Print("ok fault\n");
  *reinterpret_cast<volatile uint64_t*>(0x7ffffffff000) = 0;
}

}  // namespace guest
