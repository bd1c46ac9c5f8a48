#include "e2e/guest/commands.h"

#include "e2e/guest/boot_info.h"
#include "e2e/guest/clock.h"
#include "e2e/guest/command_table.h"
#include "e2e/guest/console.h"
#include "e2e/guest/cpus.h"
#include "e2e/guest/interrupts.h"

namespace guest {

Background background;

namespace {

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

constexpr struct {
  const char* verb;
  void (*run)(Arguments&);
} kCommands[] = {
    {"echo", Echo},         {"report", Report}, {"memmap", MemoryMap},
    {"touch", Touch},       {"verify", Verify}, {"checksum", ChecksumCommand},
    {"ticks", Ticks},       {"timer", Timer},   {"gap", Gap},
    {"poke", Poke},         {"cpus", Cpus},     {"nested", NestedCommand},
    {"idle", Idle},         {"sleep", Sleep},   {"halt", Halt},
    {"poweroff", PowerOff}, {"reset", Reset},   {"triple-fault", TripleFault},
    {"spin", Spin},         {"fault", Fault},
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
