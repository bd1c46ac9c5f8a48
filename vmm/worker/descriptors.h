#ifndef DROVER_VMM_WORKER_DESCRIPTORS_H_
#define DROVER_VMM_WORKER_DESCRIPTORS_H_

namespace drover {

// The descriptors that a worker process has from its start on, besides 0 to 2.
inline constexpr int kLaunchChannelFd = 3;
inline constexpr int kKvmFd = 4;
inline constexpr int kUserfaultfdDeviceFd = 5;  // /dev/userfaultfd, where the host has it

}  // namespace drover

#endif  // DROVER_VMM_WORKER_DESCRIPTORS_H_
