#ifndef DROVER_AGENT_DAEMON_AGENT_USER_H_
#define DROVER_AGENT_DAEMON_AGENT_USER_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace drover {

// Whom the agent runs as once it has no privilege. Never root.
struct AgentUser {
  uid_t uid = 65533;
  gid_t gid = 65533;
};

// The user of that name or number; a number without an account is its own group. "" for the account
// "drover", or 65533 where there is none. INVALID_ARGUMENT for a name without an account, and for
// root.
absl::StatusOr<AgentUser> ResolveAgentUser(const std::string& text);

// Becomes that user for good, from root: no capabilities in any set, no supplementary groups,
// no_new_privs, not dumpable. Checked afterwards. For the process's only thread.
absl::Status DropPrivileges(const AgentUser& user);

// Raises RLIMIT_NOFILE as far as root may: each VM takes some descriptors.
absl::Status RaiseFileLimit();

}  // namespace drover

#endif  // DROVER_AGENT_DAEMON_AGENT_USER_H_
