#ifndef DROVER_VMM_BOOT_ELF_LOADER_H_
#define DROVER_VMM_BOOT_ELF_LOADER_H_

#include "absl/status/statusor.h"
#include "vmm/boot/image_file.h"
#include "vmm/boot/kernel_image.h"
#include "vmm/core/guest_memory.h"

namespace drover {

// Whether the file begins as an ELF.
bool IsElf(const ImageFile& file);

// Loads the PT_LOAD segments of an ELF at their physical addresses. With Xen's PHYS32_ENTRY note
// (type 18; x86-64 or i386) the protocol is PVH and the entry the note's; without it an ELF64 is a
// Linux vmlinux. The bytes of a segment behind its file part are left alone (zeros in fresh
// memory). INVALID_ARGUMENT as LoadBootImage says.
absl::StatusOr<KernelImage> LoadElf(const ImageFile& file, GuestMemory& memory);

}  // namespace drover

#endif  // DROVER_VMM_BOOT_ELF_LOADER_H_
