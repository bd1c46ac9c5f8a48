#ifndef DROVER_AGENT_JAIL_JAIL_H_
#define DROVER_AGENT_JAIL_JAIL_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/fd.h"

namespace drover {

// What a jailed process gets; it gets nothing else. Descriptors are borrowed.
struct JailOptions {
  int executable = -1;            // of a static ELF program that everybody may execute
  std::vector<std::string> argv;  // the environment is empty
  std::vector<int> descriptors;   // descriptors[i] becomes descriptor i; at most kMaxDescriptors
  uint64_t namespaces = 0;        // CLONE_NEW* of ProbeNamespaces
  uint32_t uid = 0;               // its user and group id, on the host and inside; not 0
  int cgroup = -1;                // directory of a cgroup v2 to start in; -1: the parent's
  std::vector<int> cgroup_joins;  // files of cgroups v1 to write "0" to; at most kMaxJoins

  static constexpr size_t kMaxDescriptors = 16;
  static constexpr size_t kMaxJoins = 8;
};

// A child of this process, not waited for.
struct JailedProcess {
  pid_t pid = 0;
  Fd pidfd;
};

// Starts a program in a jail; README.md has the steps. Returns when the program runs (it has been
// executed). An error names the step that failed and carries its errno; nothing is left of the
// child then. Not to be called on two threads at once.
absl::StatusOr<JailedProcess> SpawnJailed(const JailOptions& options);

}  // namespace drover

#endif  // DROVER_AGENT_JAIL_JAIL_H_
