#include "e2e/guest/commands.h"

#include "e2e/guest/acpi.h"
#include "e2e/guest/arguments.h"
#include "e2e/guest/boot_info.h"
#include "e2e/guest/clock.h"
#include "e2e/guest/console.h"
#include "e2e/guest/cpus.h"
#include "e2e/guest/interrupts.h"
#include "e2e/guest/pattern.h"
#include "e2e/guest/touch.h"

namespace guest {

Background background;

namespace {

constexpr uint64_t kDefaultTouchBase = 16 << 20;
constexpr uint64_t kDefaultTouchSize = 64 << 20;

void Echo(Arguments& arguments) { Print("ok echo %s\n", arguments.Rest()); }

void Report(Arguments&) {
  Print("ok report memory=%u cpus=%u online=%u tsc=%u tsc_hz=%u tsc_source=%s lapic=%u",
        boot_info.ram_size, uint64_t{CpusSeen()}, uint64_t{CpusOnline()}, Tsc(), TscHz(),
        TscSource(), uint64_t{HasLapic()});
  Print(" rsdp=%x cmdline=%s\n", boot_info.rsdp, boot_info.command_line);
}

void MemoryMap(Arguments&) {
  for (uint32_t i = 0; i < boot_info.ram_count; i++) {
    Print("ram base=%x size=%x\n", boot_info.ram[i].base, boot_info.ram[i].size);
  }
  const Range free = FreeRamFrom(0);
  Print("ok memmap ranges=%u free_base=%x free_size=%x\n", uint64_t{boot_info.ram_count}, free.base,
        free.size);
}

void PrintTouch(const char* verb) {
  const TouchPlan& plan = toucher.plan();
  Print("ok %s running=%u base=%x size=%u pages=%u writes=%u", verb, uint64_t{toucher.running()},
        plan.base, plan.size, plan.size / kPageSize, toucher.writes());
  Print(" rate=%u seed=%u bytes=%u passes=%u\n", plan.rate, plan.seed, plan.bytes, plan.passes);
}

// Size 0 in the plan: the default, or less if there is less.
bool CompletePlan(TouchPlan* plan) {
  const Range free = FreeRamFrom(plan->base);
  if (plan->size == 0) {
    plan->size = free.size < kDefaultTouchSize ? free.size & ~(kPageSize - 1) : kDefaultTouchSize;
  }
  if ((plan->base | plan->size) % kPageSize != 0) {
    Print("error touch base and size must be multiples of 4096\n");
  } else if (plan->size == 0 || !IsFreeRam(plan->base, plan->size)) {
    Print("error touch no free RAM at %x of size %u: see memmap\n", plan->base, plan->size);
  } else if (plan->bytes == 0 || plan->bytes > kPageSize || plan->bytes % 8 != 0) {
    Print("error touch bytes must be a multiple of 8 from 8 to 4096\n");
  } else if (plan->rate > 1000000000) {
    Print("error touch rate must be at most 1000000000\n");
  } else {
    return true;
  }
  return false;
}

void Touch(Arguments& arguments) {
  if (arguments.Take("stop")) {
    toucher.Stop();
    return PrintTouch("touch");
  }
  if (*arguments.Rest() == 0 && toucher.plan().size != 0) return PrintTouch("touch");
  Option o[] = {{"base", kDefaultTouchBase}, {"size", 0},  {"rate", 0}, {"seed", 1},
                {"bytes", kPageSize},        {"passes", 0}};
  if (!arguments.Read("touch", o)) return;
  TouchPlan plan = {o[0].value, o[1].value, o[2].value, o[3].value, o[4].value, o[5].value};
  if (!CompletePlan(&plan)) return;
  toucher.Start(plan);
  PrintTouch("touch");
}

void Verify(Arguments&) {
  const VerifyResult result = toucher.Verify();
  Print("%s verify pages=%u bad=%u writes=%u checksum=%x\n", result.bad ? "error" : "ok",
        result.pages, result.bad, toucher.writes(), result.checksum);
}

void ChecksumCommand(Arguments& arguments) {
  Option o[] = {{"base", toucher.plan().base}, {"size", toucher.plan().size}};
  if (!arguments.Read("checksum", o)) return;
  const uint64_t base = o[0].value, size = o[1].value;
  if (base % 8 != 0 || size % 8 != 0 || !IsFreeRam(base, size)) {
    Print("error checksum no free RAM at %x of size %u, or not aligned to 8: see memmap\n", base,
          size);
    return;
  }
  Print("ok checksum base=%x size=%u checksum=%x\n", base, size, Checksum(base, size));
}

void Poke(Arguments& arguments) {
  Option o[] = {{"address", 0}, {"value", 0}};
  if (!arguments.Read("poke", o)) return;
  if (o[0].value % 8 != 0 || !IsFreeRam(o[0].value, 8)) {
    Print("error poke no free RAM at %x, or not aligned to 8: see memmap\n", o[0].value);
    return;
  }
  Store(*reinterpret_cast<uint64_t*>(o[0].value), o[1].value);
  Print("ok poke address=%x value=%x\n", o[0].value, o[1].value);
}

void Ticks(Arguments& arguments) {
  if (arguments.Take("off")) {
    background.tick_cycles = 0;
  } else if (arguments.Take("on")) {
    Option o[] = {{"ms", 1000}};
    if (!arguments.Read("ticks", o)) return;
    if (o[0].value == 0 || o[0].value > 3600000) {
      Print("error ticks ms must be 1 to 3600000\n");
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

void StartCpusCommand(Arguments& arguments) {
  Option o[] = {{"count", 0}};
  if (!arguments.Read("cpus", o)) return;
  if (!HasLapic()) {
    Print("error cpus there is no local APIC\n");
  } else if (StartCpus(o[0].value)) {
    Print("ok cpus online=%u seen=%u\n", uint64_t{CpusOnline()}, uint64_t{CpusSeen()});
  } else {
    Print("error cpus only %u came online\n", uint64_t{CpusOnline()});
  }
}

void Cpus(Arguments& arguments) {
  if (arguments.Take("start")) return StartCpusCommand(arguments);
  if (arguments.Take("park")) {
    ParkCpus(true);
  } else if (arguments.Take("run")) {
    ParkCpus(false);
  } else if (*arguments.Rest()) {
    Print("error cpus unknown argument: %s\n", arguments.Rest());
    return;
  }
  PrintCpus();
  Print("ok cpus online=%u seen=%u\n", uint64_t{CpusOnline()}, uint64_t{CpusSeen()});
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
  background.sleep_until = Tsc() + MsToCycles(o[0].value);
  Print("ok sleep ms=%u\n", o[0].value);
}

void Halt(Arguments&) {
  ParkCpus(true);
  Print("ok halt\n");
  SetReceiveInterrupt(false);
  Ring0(Ring0Function::kHalt);
}

// A VMM may take a while over what it was asked for, and run the guest meanwhile.
void Wait(uint64_t ms) {
  const uint64_t end = Tsc() + MsToCycles(ms);
  while (static_cast<int64_t>(Tsc() - end) < 0) {
  }
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

constexpr struct {
  const char* verb;
  void (*run)(Arguments&);
} kCommands[] = {
    {"echo", Echo},
    {"report", Report},
    {"memmap", MemoryMap},
    {"touch", Touch},
    {"verify", Verify},
    {"checksum", ChecksumCommand},
    {"ticks", Ticks},
    {"timer", Timer},
    {"gap", Gap},
    {"poke", Poke},
    {"cpus", Cpus},
    {"idle", Idle},
    {"sleep", Sleep},
    {"halt", Halt},
    {"poweroff", PowerOff},
    {"reset", Reset},
    {"triple-fault", TripleFault},
    {"spin", Spin},
    {"fault", Fault},
};

}  // namespace

void RunCommand(char* line) {
  Arguments arguments(line);
  const char* verb = arguments.Next();
  for (const auto& command : kCommands) {
    if (Equal(verb, command.verb)) return command.run(arguments);
  }
  Print("error %s unknown command\n", *verb ? verb : "-");
}

}  // namespace guest
