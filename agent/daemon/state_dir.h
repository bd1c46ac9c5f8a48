#ifndef DROVER_AGENT_DAEMON_STATE_DIR_H_
#define DROVER_AGENT_DAEMON_STATE_DIR_H_

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/daemon/agent_user.h"
#include "vmm/base/fd.h"

namespace drover {

// Makes the state directory what root, the agent and the helper need: root's, with the agent's
// group, mode 1770, so that the agent makes files in it but cannot replace root's. Makes images/
// in it where there is none. As root.
absl::Status PrepareStateDir(const std::string& path, const AgentUser& user);

// Makes the directory of a unix socket, the agent's own, where there is none. As root.
absl::Status PrepareSocketDir(const std::string& socket_path, const AgentUser& user);

// Locks STATE_DIR/agent.lock and writes this process's id into it (or not, where the disk is full).
// The lock lives as long as any copy of the descriptor. Waits up to `patience` for the helper of an
// agent that has ended; then FAILED_PRECONDITION (STATE_DIR_IN_USE) names who holds it.
absl::StatusOr<Fd> LockStateDir(const std::string& path, std::chrono::milliseconds patience);

// Whether this process, as it is now, can make files in the state directory: the directories above
// may keep the agent's user out.
absl::Status CheckStateDirUsable(const std::string& path);

}  // namespace drover

#endif  // DROVER_AGENT_DAEMON_STATE_DIR_H_
