#ifndef DROVER_AGENT_CLI_VM_COMMANDS_H_
#define DROVER_AGENT_CLI_VM_COMMANDS_H_

#include <vector>

#include "agent/cli/command.h"

namespace drover {

// drover vm create, get, list, start, stop, pause, resume, reboot, delete, console.
std::vector<CommandSpec> VmCommands();

}  // namespace drover

#endif  // DROVER_AGENT_CLI_VM_COMMANDS_H_
