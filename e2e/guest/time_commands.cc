#include "e2e/guest/clock.h"
#include "e2e/guest/command_table.h"
#include "e2e/guest/commands.h"
#include "e2e/guest/console.h"
#include "e2e/guest/interrupts.h"

namespace guest {
namespace {

constexpr uint64_t kLongestMs = 3600000;

void SwitchTimer(TimerSource source, Arguments& arguments) {
  Option o[] = {{"hz", 100}};
  if (!arguments.Read("timer", o)) return;
  if (o[0].value < 19 || o[0].value > 10000 || !HasLapic()) {
    Print("error timer %s\n", HasLapic() ? "hz must be 19 to 10000" : "there is no local APIC");
    return;
  }
  SetTimer(source, o[0].value);
  background.timer_on = source != TimerSource::kOff;
  Print("ok timer on=%u interrupts=%u\n", uint64_t{background.timer_on}, Load(timer_interrupts));
}

}  // namespace

void Ticks(Arguments& arguments) {
  if (arguments.Take("off")) {
    background.tick_cycles = 0;
  } else if (arguments.Take("on")) {
    Option o[] = {{"ms", 1000}};
    if (!arguments.Read("ticks", o)) return;
    if (o[0].value == 0 || o[0].value > kLongestMs) {
      Print("error ticks ms must be 1 to %u\n", kLongestMs);
      return;
    }
    background.tick_cycles = MsToCycles(o[0].value);
    background.next_tick = Tsc() + background.tick_cycles;
  } else if (*arguments.Rest()) {
    Print("error ticks unknown argument: %s\n", arguments.Rest());
    return;
  }
  Print("ok ticks on=%u printed=%u\n", uint64_t{background.tick_cycles != 0}, background.ticks);
}

void Timer(Arguments& arguments) {
  if (arguments.Take("lapic")) return SwitchTimer(TimerSource::kLapic, arguments);
  if (arguments.Take("pit")) return SwitchTimer(TimerSource::kPit, arguments);
  if (arguments.Take("off")) return SwitchTimer(TimerSource::kOff, arguments);
  if (*arguments.Rest()) {
    Print("error timer unknown argument: %s\n", arguments.Rest());
    return;
  }
  Print("ok timer on=%u interrupts=%u\n", uint64_t{background.timer_on}, Load(timer_interrupts));
}

void Gap(Arguments&) {
  const GapMeter meter = gap_meter;
  gap_meter.Restart();
  Print("ok gap cycles=%u ns=%u at=%u samples=%u backwards=%u\n", meter.longest(),
        TscHz() ? CyclesToNs(meter.longest()) : 0, meter.at(), meter.samples(), meter.backwards());
  gap_meter.Restart();
}

void Idle(Arguments& arguments) {
  const bool halt = arguments.Take("halt");
  if (!halt && !arguments.Take("spin")) {
    Print("error idle needs halt or spin\n");
    return;
  }
  if (halt && !HasLapic()) {
    Print("error idle there is no local APIC\n");
    return;
  }
  if (halt) RouteSerialInterrupt();
  background.idle_halt = halt;
  Print("ok idle %s\n", halt ? "halt" : "spin");
}

void Sleep(Arguments& arguments) {
  Option o[] = {{"ms", 1000}};
  if (!arguments.Read("sleep", o)) return;
  if (o[0].value > kLongestMs) {
    Print("error sleep ms must be at most %u\n", kLongestMs);
    return;
  }
  background.sleep_until = Tsc() + MsToCycles(o[0].value);
  Print("ok sleep ms=%u\n", o[0].value);
}

}  // namespace guest
