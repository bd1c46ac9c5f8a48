#ifndef DROVER_VMM_KVM_KVM_IOCTLS_H_
#define DROVER_VMM_KVM_KVM_IOCTLS_H_

#include <cstdint>
#include <vector>

namespace drover {

// The KVM ioctl requests that each kind of thread needs (Linux Documentation/virt/kvm/api.rst): to
// build a machine; to pause, reset and watch one from the main loop; to run a vCPU, raise
// interrupts from it and dump its registers, KVM_RUN first.
std::vector<uint64_t> KvmSetupIoctls();
std::vector<uint64_t> KvmMainIoctls();
std::vector<uint64_t> KvmVcpuIoctls();

}  // namespace drover

#endif  // DROVER_VMM_KVM_KVM_IOCTLS_H_
