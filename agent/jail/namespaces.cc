#include "agent/jail/namespaces.h"

#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "vmm/base/fd.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

struct NamedFlag {
  uint64_t flag;
  const char* name;
};

constexpr NamedFlag kNamespaces[] = {
    {CLONE_NEWUSER, "user"},     {CLONE_NEWNS, "mount"}, {CLONE_NEWPID, "pid"},
    {CLONE_NEWNET, "network"},   {CLONE_NEWIPC, "ipc"},  {CLONE_NEWUTS, "uts"},
    {CLONE_NEWCGROUP, "cgroup"},
};

// 0, or the errno with which the host refuses these namespaces.
int TryNamespaces(uint64_t flags) {
  int pidfd = -1;
  const pid_t pid = CloneChild(flags, &pidfd);
  if (pid < 0) return errno;
  if (pid == 0) _exit(0);
  const Fd owned(pidfd);
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return 0;
}

}  // namespace

uint64_t AllNamespaces() {
  uint64_t all = 0;
  for (const NamedFlag& each : kNamespaces) all |= each.flag;
  return all;
}

absl::StatusOr<NamespaceSet> ProbeNamespaces() {
  NamespaceSet set;
  if (TryNamespaces(AllNamespaces()) == 0) {
    set.flags = AllNamespaces();
    return set;
  }
  for (const NamedFlag& each : kNamespaces) {
    const int error = TryNamespaces(set.flags | each.flag);
    if (error == 0) {
      set.flags |= each.flag;
    } else {
      set.warnings.push_back(absl::StrCat("the host refuses workers a ", each.name,
                                          " namespace of their own: ", strerrordesc_np(error)));
    }
  }
  if ((set.flags & CLONE_NEWNS) == 0)
    return absl::FailedPreconditionError(
        "the host refuses mount namespaces, so workers cannot be jailed; run the helper as root "
        "with CAP_SYS_ADMIN");
  return set;
}

pid_t CloneChild(uint64_t flags, int* pidfd, int cgroup) {
  struct clone_args args = {};
  args.flags = flags | CLONE_PIDFD;
  args.pidfd = reinterpret_cast<uintptr_t>(pidfd);
  args.exit_signal = SIGCHLD;
  if (cgroup >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(cgroup);
  }
  return static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof(args)));
}

}  // namespace drover
