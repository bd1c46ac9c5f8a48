#ifndef DROVER_VMM_BOOT_BZIMAGE_LOADER_H_
#define DROVER_VMM_BOOT_BZIMAGE_LOADER_H_

#include "absl/status/statusor.h"
#include "vmm/boot/image_file.h"
#include "vmm/boot/kernel_image.h"
#include "vmm/core/guest_memory.h"

namespace drover {

// Whether the file has the setup header of a Linux/x86 kernel ("HdrS").
bool IsBzImage(const ImageFile& file);

// Loads the protected-mode part of a bzImage at its preferred address, to be entered by the 64-bit
// boot protocol (boot.rst, protocol 2.12 or newer with XLF_KERNEL_64). INVALID_ARGUMENT as
// LoadBootImage says.
absl::StatusOr<KernelImage> LoadBzImage(const ImageFile& file, GuestMemory& memory);

}  // namespace drover

#endif  // DROVER_VMM_BOOT_BZIMAGE_LOADER_H_
