#ifndef DROVER_VMM_KVM_KVM_IOCTL_H_
#define DROVER_VMM_KVM_KVM_IOCTL_H_

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "vmm/base/fd.h"
#include "vmm/base/status.h"

namespace drover {

// One ioctl on a KVM descriptor, again on EINTR; the error names `call` and carries the errno.
template <typename Argument>
absl::Status KvmIoctl(int fd, unsigned long request, Argument argument, absl::string_view call,
                      absl::string_view detail = "") {
  while (ioctl(fd, request, argument) < 0)
    if (errno != EINTR) return PosixStatus(errno, call, detail);
  return absl::OkStatus();
}

// One ioctl that answers with a descriptor.
inline absl::StatusOr<Fd> KvmIoctlFd(int fd, unsigned long request, unsigned long argument,
                                     absl::string_view call) {
  for (;;) {
    Fd made(ioctl(fd, request, argument));
    if (made.valid()) return made;
    if (errno != EINTR) return PosixStatus(errno, call, "");
  }
}

// KVM_CHECK_EXTENSION on /dev/kvm or a VM; what the host does not know is 0.
inline uint32_t KvmExtension(int fd, int extension) {
  const int value = ioctl(fd, KVM_CHECK_EXTENSION, extension);
  return value > 0 ? static_cast<uint32_t>(value) : 0;
}

}  // namespace drover

#endif  // DROVER_VMM_KVM_KVM_IOCTL_H_
