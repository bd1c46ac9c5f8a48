#ifndef DROVER_VMM_BOOT_BOOT_H_
#define DROVER_VMM_BOOT_BOOT_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/vcpu.h"

namespace drover {

// What a machine boots. The descriptors are borrowed, read with pread(2) at any offset (their
// position does not matter and does not change), and must be regular files.
struct BootImageOptions {
  int kernel_fd = -1;
  int initrd_fd = -1;  // -1: none
  std::string command_line;
  uint32_t vcpus = 1;  // 1 to kMaxAcpiVcpus
};

// Loads a kernel into guest memory that reads as zeros (fresh, or after Clear), with all that its
// boot protocol wants below 1 MiB (vmm/core/memory_layout.h) and the ACPI tables, and says how the
// boot processor begins. The protocol follows from the image:
//   ELF with Xen's PHYS32_ENTRY note: PVH (xen/include/public/arch-x86/hvm/start_info.h);
//   Linux bzImage: the 64-bit boot protocol (Linux Documentation/arch/x86/boot.rst);
//   other x86-64 ELF: as a Linux vmlinux, entered in 64-bit mode with boot parameters.
// The GDT has code at selector 0x10 (32-bit for PVH, 64-bit otherwise), data at 0x18, TSS at 0x20.
//
// The files are hostile. INVALID_ARGUMENT says what is wrong and what to do, with a field
// (FieldOf) and a reason (ReasonOf), one of
//   vm.spec.boot.kernel_path: KERNEL_UNREADABLE, KERNEL_TRUNCATED, KERNEL_WRONG_ARCHITECTURE,
//     KERNEL_FORMAT_UNKNOWN, KERNEL_MALFORMED, KERNEL_DOES_NOT_FIT;
//   vm.spec.boot.initrd_path: INITRD_UNREADABLE, INITRD_EMPTY, INITRD_DOES_NOT_FIT;
//   vm.spec.boot.command_line: COMMAND_LINE_TOO_LONG, COMMAND_LINE_HAS_NUL;
//   vm.spec.vcpus: TOO_MANY_VCPUS, or too few.
// After an error the guest memory holds anything, but nothing outside it was written. Stateless;
// the caller is the only user of `memory`.
absl::StatusOr<BootRegisters> LoadBootImage(const BootImageOptions& options, GuestMemory& memory);

}  // namespace drover

#endif  // DROVER_VMM_BOOT_BOOT_H_
