#include "agent/jail/jail_steps.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>

// Everything in this file runs between clone and exec: system calls only. Where glibc's wrapper
// takes locks or tells other threads (setresuid), the call is made raw.

namespace drover {
namespace {

// Above every number that descriptors are laid out at.
constexpr int kParkedDescriptors = 64;

int ErrnoOf(long result) { return result < 0 ? errno : 0; }

int AwaitParent(JailPlan* plan) {
  close(plan->parent_status);
  char go;
  ssize_t n;
  do {
    n = recv(plan->status, &go, 1, 0);
  } while (n < 0 && errno == EINTR);
  if (n == 0) _exit(0);  // the parent gave up
  return ErrnoOf(n);
}

int JoinCgroups(JailPlan* plan) {
  for (int i = 0; i < plan->join_count; ++i)
    if (write(plan->joins[i], "0", 1) != 1) return errno;
  return 0;
}

int NewSession(JailPlan*) { return ErrnoOf(setsid()); }

// Not at the clone: its root is the cgroup in which the process is now.
int NewCgroupNamespace(JailPlan* plan) {
  if ((plan->namespaces & CLONE_NEWCGROUP) == 0) return 0;
  return ErrnoOf(unshare(CLONE_NEWCGROUP));
}

int PrivateMounts(JailPlan*) {
  return ErrnoOf(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
}

// /proc is a directory that is there; what it shows is covered, then detached.
int MountRoot(JailPlan* plan) {
  const unsigned long flags = MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC;
  return ErrnoOf(mount("jail", "/proc", "tmpfs", flags, plan->root_options));
}

// Old root on top of the new one (pivot_root(2), NOTES).
int PivotRoot(JailPlan*) {
  if (chdir("/proc") != 0) return errno;
  return ErrnoOf(syscall(SYS_pivot_root, ".", "."));
}

int DetachOldRoot(JailPlan*) {
  if (umount2(".", MNT_DETACH) != 0) return errno;
  return ErrnoOf(chdir("/"));
}

int NeutralHostname(JailPlan* plan) {
  static constexpr char kName[] = "worker";
  if ((plan->namespaces & CLONE_NEWUTS) == 0) return 0;
  return ErrnoOf(sethostname(kName, sizeof(kName) - 1));
}

int ParkDescriptor(int* fd) {
  *fd = fcntl(*fd, F_DUPFD_CLOEXEC, kParkedDescriptors);
  return ErrnoOf(*fd);
}

// Every source is parked high first, so that no target overwrites a source that is still needed.
int LayOutDescriptors(JailPlan* plan) {
  const int count = plan->descriptor_count;
  for (int i = 0; i < count; ++i)
    if (const int error = ParkDescriptor(&plan->descriptors[i])) return error;
  if (const int error = ParkDescriptor(&plan->executable)) return error;
  if (const int error = ParkDescriptor(&plan->status)) return error;
  for (int i = 0; i < count; ++i)
    if (dup3(plan->descriptors[i], i, 0) < 0) return errno;
  if (dup3(plan->status, count, O_CLOEXEC) < 0) return errno;
  plan->status = count;
  if (dup3(plan->executable, count + 1, O_CLOEXEC) < 0) return errno;
  plan->executable = count + 1;
  return ErrnoOf(syscall(SYS_close_range, count + 2, ~0U, 0));
}

struct Limit {
  int resource;
  rlim_t value;
};

constexpr Limit kLimits[] = {
    {RLIMIT_CORE, 0},   {RLIMIT_MEMLOCK, 0}, {RLIMIT_MSGQUEUE, 0},  {RLIMIT_NICE, 0},
    {RLIMIT_RTPRIO, 0}, {RLIMIT_LOCKS, 0},   {RLIMIT_NOFILE, 1024}, {RLIMIT_STACK, 8 << 20},
};

// A limit is never raised: that would need a privilege on the host.
int SetLimits(JailPlan*) {
  for (const Limit& limit : kLimits) {
    struct rlimit64 now;
    if (syscall(SYS_prlimit64, 0, limit.resource, nullptr, &now) != 0) return errno;
    const rlim64_t value = now.rlim_max < limit.value ? now.rlim_max : limit.value;
    const struct rlimit64 set = {.rlim_cur = value, .rlim_max = value};
    if (syscall(SYS_prlimit64, 0, limit.resource, &set, nullptr) != 0) return errno;
  }
  umask(077);
  return 0;
}

int EmptyBoundingSet(JailPlan*) {
  for (int capability = 0; capability < 64; ++capability) {
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) continue;
    return errno == EINVAL && capability > 0 ? 0 : errno;  // EINVAL: the kernel has no more
  }
  return 0;
}

int LockSecureBits(JailPlan*) {
  const unsigned long bits = SECURE_ALL_BITS | SECURE_ALL_LOCKS;
  const unsigned long keep = issecure_mask(SECURE_KEEP_CAPS);
  return ErrnoOf(prctl(PR_SET_SECUREBITS, bits & ~keep, 0, 0, 0));
}

int SetUser(JailPlan* plan) {
  if (syscall(SYS_setgroups, 0, nullptr) != 0) return errno;
  if (syscall(SYS_setresgid, plan->uid, plan->uid, plan->uid) != 0) return errno;
  return ErrnoOf(syscall(SYS_setresuid, plan->uid, plan->uid, plan->uid));
}

int DropCapabilities(JailPlan*) {
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return errno;
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  const struct __user_cap_data_struct none[2] = {};
  return ErrnoOf(syscall(SYS_capset, &header, none));
}

int NoNewPrivileges(JailPlan*) { return ErrnoOf(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); }

struct KernelSigaction {
  void* handler;
  unsigned long flags;
  void* restorer;
  uint64_t mask;
};

int DefaultSignals(JailPlan*) {
  const KernelSigaction action = {};
  for (int signal = 1; signal <= 64; ++signal) {
    if (signal == SIGKILL || signal == SIGSTOP) continue;
    if (syscall(SYS_rt_sigaction, signal, &action, nullptr, sizeof(uint64_t)) != 0) return errno;
  }
  const uint64_t nothing = 0;
  return ErrnoOf(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &nothing, nullptr, sizeof(nothing)));
}

int Execute(JailPlan* plan) {
  char* const environment[] = {nullptr};
  syscall(SYS_execveat, plan->executable, "", plan->argv, environment, AT_EMPTY_PATH);
  return errno;
}

struct Step {
  const char* name;
  int (*run)(JailPlan* plan);  // 0 or errno
};

// The order matters: README.md says why.
constexpr Step kSteps[] = {
    {"wait for its parent", AwaitParent},
    {"join its cgroups", JoinCgroups},
    {"start a session", NewSession},
    {"make a cgroup namespace", NewCgroupNamespace},
    {"make its mounts private", PrivateMounts},
    {"mount the empty root", MountRoot},
    {"enter the empty root", PivotRoot},
    {"detach the old root", DetachOldRoot},
    {"set the host name", NeutralHostname},
    {"lay out its descriptors", LayOutDescriptors},
    {"set its resource limits", SetLimits},
    {"empty the capability bounding set", EmptyBoundingSet},
    {"lock the secure bits", LockSecureBits},
    {"take its user id", SetUser},
    {"drop its capabilities", DropCapabilities},
    {"set no_new_privs", NoNewPrivileges},
    {"reset its signals", DefaultSignals},
    {"execute the program", Execute},
};

}  // namespace

void RunJailSteps(JailPlan* plan) {
  for (uint32_t i = 0; i < std::size(kSteps); ++i) {
    const JailFailure failure = {.step = i, .error = kSteps[i].run(plan)};
    if (failure.error == 0) continue;
    send(plan->status, &failure, sizeof(failure), MSG_NOSIGNAL);
    break;
  }
  _exit(127);
}

const char* JailStepName(uint32_t step) {
  return step < std::size(kSteps) ? kSteps[step].name : "an unknown step";
}

}  // namespace drover
