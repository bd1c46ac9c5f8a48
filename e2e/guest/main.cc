// The test guest's ring 3: set-up, then one loop that does everything.

#include "e2e/guest/address_space.h"
#include "e2e/guest/arguments.h"
#include "e2e/guest/boot_info.h"
#include "e2e/guest/clock.h"
#include "e2e/guest/commands.h"
#include "e2e/guest/console.h"
#include "e2e/guest/interrupts.h"
#include "e2e/guest/nested.h"
#include "e2e/guest/touch.h"

extern "C" {
extern char variables_start[], variables_end[];
[[noreturn]] void guest_main(uint64_t start_info);
[[noreturn]] void guest_fault();

// The last exception that was not a call of ring 0; rip 0: none.
struct {
  uint64_t vector, error, rip, cr2;
} fault_record;
}

namespace guest {
namespace {

// About a millisecond: each look at the serial port costs an exit.
constexpr uint64_t kPollCycles = 1 << 21;

void ClearVariables() {
  for (char* p = variables_start; p < variables_end; p += 8)
    Store(*reinterpret_cast<uint64_t*>(p), uint64_t{0});
}

// The commands of the kernel command line: its words do=VERB,ARGUMENT,...
class BootCommands {
 public:
  // Copies the next one to `line`; false when there is none left.
  bool Next(char* line) {
    while (*next_) {
      const bool at_word = HasPrefix(next_, "do=");
      if (at_word) next_ += 3;
      while (*next_ && *next_ != ' ') {
        if (at_word) *line++ = *next_ == ',' ? ' ' : *next_;
        next_++;
      }
      while (*next_ == ' ') next_++;
      *line = 0;
      if (at_word) return true;
    }
    return false;
  }

 private:
  const char* next_ = boot_info.command_line;
};

char command[4096];

void PrintFault() {
  Print("fault vector=%u error=%x rip=%x cr2=%x\n", fault_record.vector, fault_record.error,
        fault_record.rip, fault_record.cr2);
  Store(fault_record.rip, uint64_t{0});
}

void RunSerialCommand() {
  bool too_long = false;
  const char* line = PollLine(&too_long);
  if (!line) return;
  Store(wake_pending, 1u);  // there may be more already, for which no further interrupt comes
  if (too_long) {
    Print("error - line too long\n");
    return;
  }
  char* to = command;
  while ((*to++ = *line++)) {
  }
  RunCommand(command);
}

void PrintDueTick(uint64_t now) {
  if (background.tick_cycles == 0 || static_cast<int64_t>(now - background.next_tick) < 0) return;
  background.next_tick += background.tick_cycles;
  if (static_cast<int64_t>(now - background.next_tick) >
      0) {  // the guest did not run: do not catch up
    background.next_tick = now + background.tick_cycles;
  }
  Print("tick %u\n", ++background.ticks);
}

bool Asleep(uint64_t now) {
  if (background.sleep_until == 0) return false;
  if (static_cast<int64_t>(now - background.sleep_until) < 0) return true;
  background.sleep_until = 0;
  return false;
}

// A wait in hlt for the next interrupt, if no background work needs the vCPU without one.
void WaitForInterrupt() {
  if (!background.idle_halt || toucher.running() || nested.RunsOn(0)) return;
  const bool needs_time = background.tick_cycles != 0 || background.sleep_until != 0;
  if (needs_time && !background.timer_on) return;
  Ring0(Ring0Function::kHaltWhile, reinterpret_cast<uint64_t>(&wake_pending), 0);
  gap_meter.Forgive();
}

// One turn: a gap sample, a few pages, what is due, and now and then a look at the serial port.
class MainLoop {
 public:
  void Turn() {
    const uint64_t now = gap_meter.Sample();
    toucher.Step();
    nested.Step(0);
    PrintDueTick(now);
    if (Asleep(now)) return WaitForInterrupt();
    if (!boot_done_) return RunBootCommand();
    const bool woken = Load(wake_pending);
    if (!woken && now - last_poll_ < kPollCycles) return;
    Store(wake_pending, 0u);
    last_poll_ = now;
    if (Load(fault_record.rip)) PrintFault();
    RunSerialCommand();
    WaitForInterrupt();
  }

 private:
  void RunBootCommand() {
    if (boot_commands_.Next(command)) return RunCommand(command);
    boot_done_ = true;
    Print("ready\n");
  }

  BootCommands boot_commands_;
  bool boot_done_ = false;
  uint64_t last_poll_ = 0;
};

}  // namespace
}  // namespace guest

void guest_main(uint64_t start_info) {
  using namespace guest;
  FillBootTask();
  ClearVariables();
  StartConsole("ello from drover test guest\n");
  ReadBootInfo(start_info);
  MapMemory();
  FillInterruptTable();
  MainLoop loop;
  for (;;) loop.Turn();
}

void guest_fault() {
  using namespace guest;
  PrintFault();
  for (;;) Ring0(Ring0Function::kHalt);
}
