#ifndef DROVER_VMM_BOOT_INITRD_H_
#define DROVER_VMM_BOOT_INITRD_H_

#include "absl/status/statusor.h"
#include "vmm/boot/kernel_image.h"
#include "vmm/core/guest_memory.h"

namespace drover {

// Loads an initrd, page-aligned, as high as low RAM and `kernel.initrd_max` allow, clear of
// the kernel; returns where its bytes are. INVALID_ARGUMENT as LoadBootImage says.
absl::StatusOr<GuestRange> LoadInitrd(int fd, const KernelImage& kernel, GuestMemory& memory);

}  // namespace drover

#endif  // DROVER_VMM_BOOT_INITRD_H_
