#ifndef DROVER_VMM_KVM_KVM_EXIT_H_
#define DROVER_VMM_KVM_KVM_EXIT_H_

#include <linux/kvm.h>

#include "vmm/core/vcpu.h"

namespace drover {

// What `run` says after a KVM_RUN that succeeded; spans point into it. (KVM api.rst §5)
VcpuExit DecodeExit(struct kvm_run* run);

}  // namespace drover

#endif  // DROVER_VMM_KVM_KVM_EXIT_H_
