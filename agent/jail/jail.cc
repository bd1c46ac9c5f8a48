#include "agent/jail/jail.h"

#include <errno.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "agent/jail/jail_steps.h"
#include "agent/jail/namespaces.h"
#include "agent/jail/process_identity.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr int kStartMillis = 30000;  // nothing but the kernel can hold the child up

// Keeps every signal from the calling thread, hence from the child until it resets its own.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

absl::Status CheckOptions(const JailOptions& options) {
  if (options.argv.empty() || options.descriptors.size() > JailOptions::kMaxDescriptors ||
      options.cgroup_joins.size() > JailOptions::kMaxJoins)
    return absl::InvalidArgumentError(
        "a jailed program needs argv[0], at most 16 descriptors and at most 8 cgroups");
  if (options.uid == 0 || options.uid == UINT32_MAX)
    return absl::InvalidArgumentError("a jailed program needs a user id of its own");
  return absl::OkStatus();
}

JailPlan MakePlan(const JailOptions& options, int status, std::vector<char*>* argv) {
  JailPlan plan;
  plan.namespaces = options.namespaces;
  plan.uid = options.uid;
  plan.status = status;
  plan.executable = options.executable;
  plan.descriptor_count = static_cast<int>(options.descriptors.size());
  std::copy(options.descriptors.begin(), options.descriptors.end(), plan.descriptors);
  plan.join_count = static_cast<int>(options.cgroup_joins.size());
  std::copy(options.cgroup_joins.begin(), options.cgroup_joins.end(), plan.joins);
  snprintf(plan.root_options, sizeof(plan.root_options),
           "size=4k,nr_inodes=1,mode=555,uid=%u,gid=%u", options.uid, options.uid);
  for (const std::string& word : options.argv) argv->push_back(const_cast<char*>(word.c_str()));
  argv->push_back(nullptr);
  plan.argv = argv->data();
  return plan;
}

// One user and one group, the same inside as outside.
absl::Status MapIds(pid_t pid, uint32_t uid) {
  const std::string map = absl::StrCat(uid, " ", uid, " 1");
  RETURN_IF_ERROR(WriteExisting(absl::StrCat("/proc/", pid, "/uid_map").c_str(), map));
  return WriteExisting(absl::StrCat("/proc/", pid, "/gid_map").c_str(), map);
}

// OK at the end of the stream: the program has been executed, which closed the child's end.
absl::Status AwaitExec(int status) {
  struct pollfd entry = {.fd = status, .events = POLLIN, .revents = 0};
  int ready;
  do {
    ready = poll(&entry, 1, kStartMillis);
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) return absl::DeadlineExceededError("the jailed child did not start in 30 s");
  JailFailure failure;
  const ssize_t n = recv(status, &failure, sizeof(failure), 0);
  if (n == 0) return absl::OkStatus();
  if (n != sizeof(failure)) return PosixStatus(n < 0 ? errno : EPROTO, "recv", "from the jail");
  return PosixStatus(failure.error, "a jailed child could not", JailStepName(failure.step));
}

absl::Status StartChild(const JailOptions& options, pid_t pid, int status) {
  if (options.namespaces & CLONE_NEWUSER) RETURN_IF_ERROR(MapIds(pid, options.uid));
  if (send(status, "g", 1, MSG_NOSIGNAL) != 1) return PosixStatus(errno, "send", "to the jail");
  return AwaitExec(status);
}

void EndChild(const JailedProcess& child) {
  KillProcess(child.pidfd.get()).IgnoreError();
  while (waitpid(child.pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace

absl::StatusOr<JailedProcess> SpawnJailed(const JailOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return PosixStatus(errno, "socketpair", "");
  const Fd ours(pair[0]);
  Fd theirs(pair[1]);
  std::vector<char*> argv;
  JailPlan plan = MakePlan(options, theirs.get(), &argv);
  plan.parent_status = ours.get();

  const SignalsBlocked blocked;
  int pidfd = -1;
  JailedProcess child;
  child.pid = CloneChild(options.namespaces & ~uint64_t{CLONE_NEWCGROUP}, &pidfd, options.cgroup);
  if (child.pid < 0) return PosixStatus(errno, "clone3", "of a jailed child");
  if (child.pid == 0) RunJailSteps(&plan);
  child.pidfd.Reset(pidfd);
  theirs.Reset();
  const absl::Status started = StartChild(options, child.pid, ours.get());
  if (started.ok()) return child;
  EndChild(child);
  return started;
}

}  // namespace drover
