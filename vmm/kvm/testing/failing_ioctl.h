#ifndef DROVER_VMM_KVM_TESTING_FAILING_IOCTL_H_
#define DROVER_VMM_KVM_TESTING_FAILING_IOCTL_H_

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <thread>

namespace drover {

// Lets every ioctl of this number on this thread fail with `error`, for as long as it lives.
inline void LetIoctlFail(uint32_t request, uint16_t error) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, request, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
    abort();
}

// Calls `use` on a host that has lost one ioctl since it was probed: on a thread of its own.
inline void WithFailingIoctl(unsigned long request, int error, const std::function<void()>& use) {
  std::thread([&] {
    LetIoctlFail(static_cast<uint32_t>(request), static_cast<uint16_t>(error));
    use();
  }).join();
}

}  // namespace drover

#endif  // DROVER_VMM_KVM_TESTING_FAILING_IOCTL_H_
