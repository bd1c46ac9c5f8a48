// The commands (README.md lists them): each is answered by exactly one line, `ok VERB ...` or
// `error VERB ...`.
#ifndef E2E_GUEST_COMMANDS_H_
#define E2E_GUEST_COMMANDS_H_

#include <stdint.h>

namespace guest {

// Runs one command and prints its answer. Cuts `line` into words.
void RunCommand(char* line);

// The settings of the background work that commands change.
struct Background {
  uint64_t tick_cycles;  // 0: no tick lines
  uint64_t next_tick;    // TSC
  uint64_t ticks;        // printed
  uint64_t sleep_until;  // TSC; 0: awake
  bool timer_on;
  bool idle_halt;  // wait in hlt when nothing is to be done
};

extern Background background;

}  // namespace guest

#endif  // E2E_GUEST_COMMANDS_H_
