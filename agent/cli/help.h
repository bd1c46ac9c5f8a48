#ifndef DROVER_AGENT_CLI_HELP_H_
#define DROVER_AGENT_CLI_HELP_H_

#include <ostream>

#include "agent/cli/command.h"

namespace drover {

// drover --help: examples, commands, options, exit codes.
void PrintHelp(std::ostream& out);

// drover COMMAND --help: examples, then its options.
void PrintCommandHelp(const CommandSpec& command, std::ostream& out);

}  // namespace drover

#endif  // DROVER_AGENT_CLI_HELP_H_
