// Runs a command with given input and keeps what it printed, for the tests of the test guest.
#ifndef E2E_GUEST_CONSOLE_RUN_H_
#define E2E_GUEST_CONSOLE_RUN_H_

#include <cstdint>
#include <string>

namespace drover {

struct ConsoleRun {
  std::string output;  // stdout and stderr, carriage returns dropped
  int exit_code;       // -1: ended by a signal

  // The whole first line that begins with `prefix`, or "".
  std::string Line(const std::string& prefix) const;

  // KEY's value in ` KEY=VALUE` of that line; 0 without it.
  uint64_t Number(const std::string& prefix, const std::string& key) const;
};

// `command` is for the shell; `input` must hold no single quote.
ConsoleRun RunConsole(const std::string& command, const std::string& input = "");

bool HasProgram(const std::string& name);
bool HasKvm();

}  // namespace drover

#endif  // E2E_GUEST_CONSOLE_RUN_H_
