#ifndef DROVER_AGENT_JAIL_NAMESPACES_H_
#define DROVER_AGENT_JAIL_NAMESPACES_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace drover {

// The namespaces that a jail has on this host.
struct NamespaceSet {
  uint64_t flags = 0;                 // CLONE_NEW*
  std::vector<std::string> warnings;  // one for each that the host refuses
};

// Every namespace of a jail: user, mount, pid, network, ipc, uts, cgroup.
uint64_t AllNamespaces();

// Tries what the host allows, with short-lived children. FAILED_PRECONDITION without the mount
// namespace: there is no jail without it.
absl::StatusOr<NamespaceSet> ProbeNamespaces();

// clone3(2) with the meaning of fork: 0 in the child, its pid in the parent, -1 and errno. `flags`
// are CLONE_NEW*; *pidfd receives the child's pidfd; the child starts in the cgroup v2 directory
// `cgroup`, unless that is negative. The child may only make system calls: no heap, no locks.
pid_t CloneChild(uint64_t flags, int* pidfd, int cgroup = -1);

}  // namespace drover

#endif  // DROVER_AGENT_JAIL_NAMESPACES_H_
