#ifndef DROVER_VMM_KVM_SEGMENTS_H_
#define DROVER_VMM_KVM_SEGMENTS_H_

#include <linux/kvm.h>

#include "vmm/core/vcpu.h"

namespace drover {

// Puts the mode of `boot` into `sregs`: flat 32-bit protected mode without paging (PVH: xen
// docs/misc/pvh.pandoc), or flat 64-bit mode with paging on boot.cr3 (Linux
// Documentation/arch/x86/boot.rst, 64-bit boot protocol).
void SetBootMode(const BootRegisters& boot, struct kvm_sregs* sregs);

}  // namespace drover

#endif  // DROVER_VMM_KVM_SEGMENTS_H_
