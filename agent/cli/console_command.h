#ifndef DROVER_AGENT_CLI_CONSOLE_COMMAND_H_
#define DROVER_AGENT_CLI_CONSOLE_COMMAND_H_

#include "agent/cli/command.h"

namespace drover {

// Joins standard input and output to a VM's console until the VM ends or the person leaves. A
// terminal is put into raw mode meanwhile, and restored whatever happens but SIGKILL. Input that
// ends (a file, /dev/null) leaves the output running.
int RunConsoleCommand(const CommandContext& context);

}  // namespace drover

#endif  // DROVER_AGENT_CLI_CONSOLE_COMMAND_H_
