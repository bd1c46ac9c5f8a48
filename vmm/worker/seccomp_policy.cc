#include "vmm/worker/seccomp_policy.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "vmm/base/log.h"
#include "vmm/base/status.h"
#include "vmm/kvm/kvm_ioctls.h"
#include "vmm/worker/descriptors.h"

namespace drover {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
#else
constexpr bool kSanitized = false;
#endif

using Rules = std::vector<SyscallRule>;

ArgumentRule OneOf(unsigned index, std::vector<uint64_t> values) {
  return {index, ArgumentRule::Kind::kEquals, std::move(values)};
}
ArgumentRule Without(unsigned index, uint64_t bits) {
  return {index, ArgumentRule::Kind::kNoBits, {bits}};
}
ArgumentRule With(unsigned index, uint64_t bits) {
  return {index, ArgumentRule::Kind::kHasBits, {bits}};
}

SyscallRule KvmIoctls(std::vector<uint64_t> requests) {
  return {SYS_ioctl, {OneOf(1, std::move(requests))}};
}

// What every thread does: memory of its own, locks, time, signals, its end. Never a page that can
// be executed.
Rules CommonRules() {
  return {
      {SYS_futex},
      {SYS_write},
      {SYS_read},
      {SYS_clock_gettime},
      {SYS_gettimeofday},
      {SYS_mmap, {Without(2, PROT_EXEC), Without(3, MAP_HUGETLB)}},
      {SYS_mprotect, {Without(2, PROT_EXEC)}},
      {SYS_munmap},
      {SYS_mremap},
      {SYS_brk},
      {SYS_madvise, {OneOf(2, {MADV_DONTNEED, MADV_FREE, MADV_REMOVE})}},
      {SYS_getpid},
      {SYS_gettid},
      {SYS_getrandom},
      {SYS_sched_yield},
      {SYS_restart_syscall},
      {SYS_rt_sigreturn},
      {SYS_rt_sigprocmask},
      {SYS_sigaltstack},
      {SYS_tgkill, {OneOf(0, {static_cast<uint64_t>(getpid())})}},
      {SYS_exit},
      {SYS_exit_group},
  };
}

// The loop, its sockets, and what a pause, a reset and the end of a machine take.
Rules MainRules() {
  return {
      {SYS_epoll_wait},
      {SYS_epoll_pwait},
      {SYS_epoll_ctl},
      {SYS_poll},
      {SYS_accept4},
      {SYS_sendmsg},
      {SYS_recvmsg},
      {SYS_sendto, {OneOf(4, {0})}},
      {SYS_recvfrom},
      {SYS_socketpair, {OneOf(0, {AF_UNIX})}},
      {SYS_fcntl, {OneOf(1, {F_GETFL, F_SETFL})}},
      {SYS_close},
      {SYS_pread64},
      {SYS_pwrite64},
      {SYS_fstat},
      {SYS_newfstatat, {With(3, AT_EMPTY_PATH)}},
      {SYS_fallocate, {OneOf(1, {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE})}},
      KvmIoctls(KvmMainIoctls()),
      {SYS_ioctl, {OneOf(0, {kUserfaultfdDeviceFd}), OneOf(1, {USERFAULTFD_IOC_NEW})}},
  };
}

Rules VcpuRules() { return {KvmIoctls(KvmVcpuIoctls())}; }

// A thread of this process, and nothing else.
constexpr uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                  CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
                                  CLONE_CHILD_CLEARTID;

constexpr uint64_t kMemFdFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;

// What building takes. clone3's flags are out of a filter's sight: without it libc uses clone.
Rules SetupRules() {
  return {
      {SYS_clone3, {}, ENOSYS},
      {SYS_clone, {OneOf(0, {kThreadFlags})}},
      {SYS_set_robust_list},
      {SYS_rseq},
      {SYS_rt_sigaction},
      {SYS_memfd_create, {OneOf(1, {kMemFdFlags, kMemFdFlags | MFD_HUGETLB | MFD_HUGE_2MB})}},
      {SYS_ftruncate},
      {SYS_fcntl, {OneOf(1, {F_ADD_SEALS, F_DUPFD_CLOEXEC})}},
      {SYS_dup2, {OneOf(1, {STDERR_FILENO})}},
      {SYS_eventfd2},
      {SYS_epoll_create1},
      {SYS_prlimit64, {OneOf(0, {0}), OneOf(1, {RLIMIT_FSIZE})}},
      {SYS_prctl, {OneOf(0, {PR_SET_NO_NEW_PRIVS})}},
      {SYS_seccomp, {OneOf(0, {SECCOMP_SET_MODE_FILTER})}},
      KvmIoctls(KvmSetupIoctls()),
  };
}

void Append(Rules* rules, Rules more) {
  for (SyscallRule& rule : more) rules->push_back(std::move(rule));
}

}  // namespace

Rules SeccompRules(ThreadKind kind) {
  Rules rules;
  if (kind != ThreadKind::kMain) Append(&rules, VcpuRules());
  Append(&rules, CommonRules());
  if (kind != ThreadKind::kVcpu) Append(&rules, MainRules());
  if (kind == ThreadKind::kSetup) Append(&rules, SetupRules());
  return rules;
}

absl::StatusOr<SeccompPolicy> SeccompPolicy::Compile(ThreadKind kind) {
  ASSIGN_OR_RETURN(std::vector<sock_filter> program, CompileFilter(SeccompRules(kind)));
  return SeccompPolicy(std::move(program));
}

absl::StatusOr<SeccompPolicy> SeccompPolicy::CompileWithin(ThreadKind kind, ThreadKind outer) {
  ASSIGN_OR_RETURN(std::vector<sock_filter> program,
                   CompileNarrowing(SeccompRules(kind), SeccompRules(outer)));
  return SeccompPolicy(std::move(program));
}

absl::Status SeccompPolicy::Enter() const {
  if (!kSanitized) return InstallFilter(program_);
  Log(LogLevel::kWarning, "NO SECCOMP FILTER: this is a sanitizer's build, for tests only");
  return absl::OkStatus();
}

}  // namespace drover
