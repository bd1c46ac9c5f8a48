#ifndef DROVER_AGENT_CLI_CLI_H_
#define DROVER_AGENT_CLI_CLI_H_

#include <string>
#include <vector>

#include "agent/cli/command.h"

namespace drover {

// Runs `drover ARGS...` and returns its exit code (ExitCode, or 128 + N after signal N in a
// console). Reads DROVER_ADDRESS and NO_COLOR.
int RunCli(const std::vector<std::string>& args, CliIo io);

// RunCli for main: on the process's own standard streams.
int CliMain(int argc, char** argv);

}  // namespace drover

#endif  // DROVER_AGENT_CLI_CLI_H_
