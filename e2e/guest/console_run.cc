#include "e2e/guest/console_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>

namespace drover {

std::string ConsoleRun::Line(const std::string& prefix) const {
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(prefix, 0) == 0) return line;
  }
  return "";
}

uint64_t ConsoleRun::Number(const std::string& prefix, const std::string& key) const {
  const std::string line = Line(prefix);
  const size_t at = line.find(" " + key + "=");
  if (at == std::string::npos) return 0;
  return strtoull(line.c_str() + at + key.size() + 2, nullptr, 0);
}

ConsoleRun RunConsole(const std::string& command, const std::string& input) {
  const std::string whole = "printf '%s' '" + input + "' | { " + command + "; } 2>&1";
  ConsoleRun run = {"", -1};
  FILE* pipe = popen(whole.c_str(), "r");
  if (!pipe) return run;
  for (int c; (c = fgetc(pipe)) != EOF;) {
    if (c != '\r') run.output += static_cast<char>(c);
  }
  const int status = pclose(pipe);
  if (WIFEXITED(status)) run.exit_code = WEXITSTATUS(status);
  return run;
}

bool HasProgram(const std::string& name) {
  return system(("command -v " + name + " >/dev/null 2>&1").c_str()) == 0;
}

bool HasKvm() { return access("/dev/kvm", R_OK | W_OK) == 0; }

}  // namespace drover
