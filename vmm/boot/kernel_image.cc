#include "vmm/boot/kernel_image.h"

#include "absl/strings/str_format.h"
#include "vmm/boot/image_file.h"
#include "vmm/core/memory_layout.h"

namespace drover {

uint64_t LowRamEnd(const GuestMemory& memory) {
  const std::vector<GuestRegion>& regions = memory.regions();
  return regions.empty() || regions[0].range.start != 0 ? 0 : regions[0].range.end();
}

absl::Status CheckKernelRange(const GuestMemory& memory, const GuestRange& range,
                              absl::string_view what) {
  if (range.start < layout::kHighMemory)
    return KernelError("KERNEL_DOES_NOT_FIT",
                       absl::StrFormat("the kernel's %s is to be at %#x, but everything below "
                                       "%#x belongs to the boot data: link it at 1 MiB or above",
                                       what, range.start, layout::kHighMemory));
  for (const GuestRegion& region : memory.regions())
    if (region.range.Contains(range.start) && range.size <= region.range.end() - range.start)
      return absl::OkStatus();
  return KernelError(
      "KERNEL_DOES_NOT_FIT",
      absl::StrFormat("the kernel's %s needs %u bytes at %#x, but the guest's low memory ends at "
                      "%#x: give the VM more memory or link the kernel lower",
                      what, range.size, range.start, LowRamEnd(memory)));
}

}  // namespace drover
