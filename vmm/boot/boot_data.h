#ifndef DROVER_VMM_BOOT_BOOT_DATA_H_
#define DROVER_VMM_BOOT_BOOT_DATA_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/boot/kernel_image.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/vcpu.h"

namespace drover {

// What a kernel is told, besides its memory map.
struct BootInformation {
  GuestRange initrd;  // size 0: none
  uint64_t rsdp_address = 0;
};

// Each writes below 1 MiB, at the addresses of vmm/core/memory_layout.h, into RAM that
// covers all of that.

// The GDT of `protocol`; fills in the registers that point to it.
absl::Status WriteGdt(BootProtocol protocol, GuestMemory& memory, BootRegisters* registers);

// Page tables that map the first 4 GiB one to one with 2 MiB pages, and cr3.
absl::Status WriteIdentityPageTables(GuestMemory& memory, BootRegisters* registers);

// The command line with its NUL at layout::kCommandLine.
absl::Status WriteCommandLine(const std::string& command_line, GuestMemory& memory);

// hvm_start_info version 1 with module list and memory map, and rbx
// (xen/include/public/arch-x86/hvm/start_info.h).
absl::Status WritePvhStartInfo(const BootInformation& information, GuestMemory& memory,
                               BootRegisters* registers);

// struct boot_params, with the image's setup header or one of a vmlinux, and rsi (Linux
// Documentation/arch/x86/boot.rst).
absl::Status WriteLinuxBootParams(const KernelImage& image, const BootInformation& information,
                                  GuestMemory& memory, BootRegisters* registers);

}  // namespace drover

#endif  // DROVER_VMM_BOOT_BOOT_DATA_H_
