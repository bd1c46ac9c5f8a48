#ifndef DROVER_VMM_BOOT_KERNEL_IMAGE_H_
#define DROVER_VMM_BOOT_KERNEL_IMAGE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "vmm/core/guest_memory.h"

namespace drover {

enum class BootProtocol {
  kPvh,      // 32-bit protected mode, start info in ebx
  kLinux64,  // long mode, boot parameters in rsi
};

// A kernel in guest memory and what its loader learned about it.
struct KernelImage {
  BootProtocol protocol = BootProtocol::kPvh;
  uint64_t entry = 0;
  GuestRange footprint;                    // memory it needs from the start, all its segments
  uint64_t initrd_max = UINT32_MAX;        // the highest address of an initrd's last byte
  uint64_t command_line_max = UINT32_MAX;  // bytes, without the NUL
  std::vector<uint8_t> setup_header;       // bzImage: the file's bytes from 0x1F1 on
};

// OK when `range` is RAM in one piece at or above 1 MiB (below it, the boot data is); otherwise
// KERNEL_DOES_NOT_FIT, naming `what`.
absl::Status CheckKernelRange(const GuestMemory& memory, const GuestRange& range,
                              absl::string_view what);

// Where the RAM that begins at 0 ends; 0 without any.
uint64_t LowRamEnd(const GuestMemory& memory);

}  // namespace drover

#endif  // DROVER_VMM_BOOT_KERNEL_IMAGE_H_
