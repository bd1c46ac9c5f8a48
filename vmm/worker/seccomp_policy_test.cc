#include "vmm/worker/seccomp_policy.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "vmm/base/status_matchers.h"
#include "vmm/worker/descriptors.h"
#include "vmm/worker/seccomp_child.h"

namespace drover {
namespace {

// One system call, and what a thread of each kind that makes it meets: true: the kernel answers,
// false: death by SIGSYS.
struct Case {
  std::string name;
  long number;
  std::vector<long> arguments;
  bool setup;
  bool main;
  bool vcpu;
};

// Requests of KVM (Linux Documentation/virt/kvm/api.rst) as numbers: what the kernel is really
// asked.
constexpr long kKvmCreateVm = 0xae01;
constexpr long kKvmCreateVcpu = 0xae41;
constexpr long kKvmSetUserMemoryRegion = 0x4020ae46;
constexpr long kKvmIrqLine = 0x4008ae61;
constexpr long kKvmRun = 0xae80;
constexpr long kKvmSetRegs = 0x4090ae82;

constexpr long kAnon = MAP_PRIVATE | MAP_ANONYMOUS;
constexpr long kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                         CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;

std::vector<Case> Cases() {
  return {
      // Descriptors are -1: what counts is whether the kernel gets to say EBADF.
      {"write", SYS_write, {-1, 0, 0}, true, true, true},
      {"read", SYS_read, {-1, 0, 0}, true, true, true},
      {"futex", SYS_futex, {0, 1, 0}, true, true, true},
      {"dup2 onto stderr", SYS_dup2, {-1, 2}, true, false, false},
      {"dup2 elsewhere", SYS_dup2, {-1, 3}, false, false, false},
      {"mmap", SYS_mmap, {0, 4096, PROT_READ, kAnon, -1, 0}, true, true, true},
      {"mmap exec", SYS_mmap, {0, 4096, PROT_EXEC, kAnon, -1, 0}, false, false, false},
      {"mmap huge",
       SYS_mmap,
       {0, 4096, PROT_READ, kAnon | MAP_HUGETLB, -1, 0},
       false,
       false,
       false},
      {"mprotect", SYS_mprotect, {0, 0, PROT_READ}, true, true, true},
      {"mprotect exec", SYS_mprotect, {0, 0, PROT_READ | PROT_EXEC}, false, false, false},
      {"madvise free", SYS_madvise, {0, 0, MADV_DONTNEED}, true, true, true},
      {"madvise other", SYS_madvise, {0, 0, MADV_HUGEPAGE}, false, false, false},
      {"tgkill init", SYS_tgkill, {1, 1, 0}, false, false, false},
      {"kill", SYS_kill, {1, 0}, false, false, false},
      {"KVM_RUN", SYS_ioctl, {-1, kKvmRun}, true, true, true},
      {"KVM_IRQ_LINE", SYS_ioctl, {-1, kKvmIrqLine}, true, true, true},
      {"KVM_SET_REGS", SYS_ioctl, {-1, kKvmSetRegs}, true, true, false},
      {"KVM_CREATE_VM", SYS_ioctl, {-1, kKvmCreateVm}, true, false, false},
      {"KVM_CREATE_VCPU", SYS_ioctl, {-1, kKvmCreateVcpu}, true, false, false},
      {"KVM_SET_USER_MEMORY_REGION", SYS_ioctl, {-1, kKvmSetUserMemoryRegion}, true, false, false},
      {"a userfaultfd from its device",
       SYS_ioctl,
       {kUserfaultfdDeviceFd, USERFAULTFD_IOC_NEW},
       true,
       true,
       false},
      {"the same of another descriptor", SYS_ioctl, {-1, USERFAULTFD_IOC_NEW}, false, false, false},
      {"another ioctl of that device",
       SYS_ioctl,
       {kUserfaultfdDeviceFd, static_cast<long>(UFFDIO_UNREGISTER)},
       false,
       false,
       false},
      {"userfaultfd", SYS_userfaultfd, {O_CLOEXEC}, false, false, false},
      {"TIOCSTI", SYS_ioctl, {-1, 0x5412}, false, false, false},
      {"epoll_ctl", SYS_epoll_ctl, {-1, 0, 0, 0}, true, true, false},
      {"recvmsg", SYS_recvmsg, {-1, 0, 0}, true, true, false},
      {"sendmsg", SYS_sendmsg, {-1, 0, 0}, true, true, false},
      {"sendto", SYS_sendto, {-1, 0, 0, 0, 0, 0}, true, true, false},
      {"sendto address", SYS_sendto, {-1, 0, 0, 0, 4096, 16}, false, false, false},
      {"accept4", SYS_accept4, {-1, 0, 0, 0}, true, true, false},
      {"socketpair unix", SYS_socketpair, {AF_UNIX, -1, 0, 0}, true, true, false},
      {"socketpair inet", SYS_socketpair, {AF_INET, SOCK_STREAM, 0, 0}, false, false, false},
      {"fcntl flags", SYS_fcntl, {-1, F_GETFL}, true, true, false},
      {"fcntl seals", SYS_fcntl, {-1, F_ADD_SEALS, 0}, true, false, false},
      {"fcntl owner", SYS_fcntl, {-1, F_SETOWN, 1}, false, false, false},
      {"fallocate hole",
       SYS_fallocate,
       {-1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1},
       true,
       true,
       false},
      {"fallocate more", SYS_fallocate, {-1, 0, 0, 1}, false, false, false},
      {"pwrite", SYS_pwrite64, {-1, 0, 0, 0}, true, true, false},
      {"memfd_create", SYS_memfd_create, {0, MFD_CLOEXEC | MFD_ALLOW_SEALING}, true, false, false},
      {"memfd_create of 2 MiB pages",
       SYS_memfd_create,
       {0, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_HUGE_2MB},
       true,
       false,
       false},
      {"memfd_create huge", SYS_memfd_create, {0, MFD_CLOEXEC | MFD_HUGETLB}, false, false, false},
      {"prlimit64 file size", SYS_prlimit64, {0, RLIMIT_FSIZE, 0, 0}, true, false, false},
      {"prlimit64 descriptors", SYS_prlimit64, {0, RLIMIT_NOFILE, 0, 0}, false, false, false},
      {"prlimit64 of another", SYS_prlimit64, {1, RLIMIT_FSIZE, 0, 0}, false, false, false},
      {"clone thread", SYS_clone, {kThread | CLONE_NEWNET, 0}, false, false, false},
      {"clone process", SYS_clone, {SIGCHLD, 0}, false, false, false},
      {"clone3", SYS_clone3, {0, 0}, true, false, false},
      {"fork", SYS_fork, {}, false, false, false},
      {"seccomp filter", SYS_seccomp, {SECCOMP_SET_MODE_FILTER, 0, 0}, true, false, false},
      {"seccomp strict", SYS_seccomp, {SECCOMP_SET_MODE_STRICT, 0, 0}, false, false, false},
      {"prctl no_new_privs", SYS_prctl, {PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0}, true, false, false},
      {"prctl dumpable", SYS_prctl, {PR_SET_DUMPABLE, 1, 0, 0, 0}, false, false, false},
      {"rt_sigaction", SYS_rt_sigaction, {0, 0, 0, 8}, true, false, false},
      {"openat", SYS_openat, {-1, 0, 0}, false, false, false},
      {"open", SYS_open, {0, 0}, false, false, false},
      {"socket", SYS_socket, {AF_UNIX, SOCK_STREAM, 0}, false, false, false},
      {"connect", SYS_connect, {-1, 0, 0}, false, false, false},
      {"execve", SYS_execve, {0, 0, 0}, false, false, false},
      {"ptrace", SYS_ptrace, {0, 0, 0, 0}, false, false, false},
      {"process_vm_readv", SYS_process_vm_readv, {1, 0, 0, 0, 0, 0}, false, false, false},
      {"unshare", SYS_unshare, {0}, false, false, false},
      {"io_uring_setup", SYS_io_uring_setup, {0, 0}, false, false, false},
      {"newfstatat by path", SYS_newfstatat, {-1, 0, 0, 0}, false, false, false},
      {"newfstatat by fd", SYS_newfstatat, {-1, 0, 0, AT_EMPTY_PATH}, true, true, false},
  };
}

std::string Meets(ThreadKind kind, const Case& call) {
  std::vector<long> a = call.arguments;
  a.resize(6);
  return RunConfined([&] { return SeccompRules(kind); },
                     [&]() -> long {
                       syscall(call.number, a[0], a[1], a[2], a[3], a[4], a[5]);
                       return 0;
                     });
}

const char* Wanted(bool allowed) { return allowed ? "exit 0" : "signal 31"; }

TEST(SeccompPolicyTest, EachCall) {
  for (const Case& call : Cases()) {
    EXPECT_EQ(Meets(ThreadKind::kSetup, call), Wanted(call.setup)) << call.name << " in setup";
    EXPECT_EQ(Meets(ThreadKind::kMain, call), Wanted(call.main)) << call.name << " in main";
    EXPECT_EQ(Meets(ThreadKind::kVcpu, call), Wanted(call.vcpu)) << call.name << " in vcpu";
  }
}

// The main thread's policy as it is put on in fact: on top of the setup policy.
TEST(SeccompPolicyTest, EachCallOnceNarrowed) {
  const auto programs = [] {
    const auto setup = SeccompRules(ThreadKind::kSetup);
    return FilterPrograms{CompileFilter(setup),
                          CompileNarrowing(SeccompRules(ThreadKind::kMain), setup)};
  };
  for (const Case& call : Cases()) {
    std::vector<long> a = call.arguments;
    a.resize(6);
    EXPECT_EQ(RunFiltered(programs,
                          [&]() -> long {
                            syscall(call.number, a[0], a[1], a[2], a[3], a[4], a[5]);
                            return 0;
                          }),
              Wanted(call.main))
        << call.name;
  }
}

// A signal to a thread of its own, which is how vCPUs are kicked.
TEST(SeccompPolicyTest, OwnThreadsCanBeSignalled) {
  for (const ThreadKind kind : {ThreadKind::kSetup, ThreadKind::kMain, ThreadKind::kVcpu})
    EXPECT_EQ(RunConfined([&] { return SeccompRules(kind); },
                          [] {
                            const long self = syscall(SYS_getpid);
                            return syscall(SYS_tgkill, self, self, 0) == 0 ? 0 : 1;
                          }),
              "exit 0");
}

// Filters stack: what a later one allows, the setup filter must allow as well.
TEST(SeccompPolicyTest, SetupContainsTheOthers) {
  for (const ThreadKind kind : {ThreadKind::kMain, ThreadKind::kVcpu})
    for (const SyscallRule& rule : SeccompRules(kind)) {
      bool found = false;
      for (const SyscallRule& setup : SeccompRules(ThreadKind::kSetup))
        found = found || setup.number == rule.number;
      EXPECT_TRUE(found) << "system call " << rule.number;
    }
}

TEST(SeccompPolicyTest, Compiles) {
  for (const ThreadKind kind : {ThreadKind::kSetup, ThreadKind::kMain, ThreadKind::kVcpu}) {
    EXPECT_THAT(SeccompPolicy::Compile(kind), IsOk());
    const auto program = CompileFilter(SeccompRules(kind));
    ASSERT_THAT(program, IsOk());
    RecordProperty("instructions", static_cast<int>(program->size()));
  }
  EXPECT_THAT(SeccompPolicy::CompileWithin(ThreadKind::kMain, ThreadKind::kSetup), IsOk());
}

}  // namespace
}  // namespace drover
