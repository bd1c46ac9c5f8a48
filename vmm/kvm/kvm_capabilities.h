#ifndef DROVER_VMM_KVM_KVM_CAPABILITIES_H_
#define DROVER_VMM_KVM_KVM_CAPABILITIES_H_

#include "vmm/core/capabilities.h"

namespace drover {

// What the host can do: KVM by KVM_CHECK_EXTENSION on `kvm_fd` (/dev/kvm), userfaultfd by making
// one with `userfaultfd_device` (/dev/userfaultfd; -1: there is none), huge pages by making a
// memfd.
BackendCapabilities ProbeKvmCapabilities(int kvm_fd, int userfaultfd_device);

}  // namespace drover

#endif  // DROVER_VMM_KVM_KVM_CAPABILITIES_H_
