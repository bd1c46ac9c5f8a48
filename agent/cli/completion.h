#ifndef DROVER_AGENT_CLI_COMPLETION_H_
#define DROVER_AGENT_CLI_COMPLETION_H_

#include <string>

#include "absl/status/statusor.h"

namespace drover {

// The completion script for "bash", "zsh" or "fish", made from Commands(): words, options, choices,
// and ids as `drover vm list -o id` gives them. INVALID_ARGUMENT for another shell.
absl::StatusOr<std::string> CompletionScript(const std::string& shell);

}  // namespace drover

#endif  // DROVER_AGENT_CLI_COMPLETION_H_
