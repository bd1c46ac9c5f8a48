#include "vmm/boot/initrd.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "vmm/base/status.h"
#include "vmm/boot/image_file.h"
#include "vmm/core/memory_layout.h"

namespace drover {
namespace {

constexpr uint64_t kPageMask = 4095;

absl::Status DoesNotFit(const ImageFile& file, const KernelImage& kernel, uint64_t limit) {
  return BootError(
      kInitrdField, "INITRD_DOES_NOT_FIT",
      absl::StrFormat("the initrd has %u bytes, but between the kernel (%#x to %#x) and %#x, "
                      "the end of what it may use, is no room: give the VM more memory or a "
                      "smaller initrd",
                      file.size(), kernel.footprint.start, kernel.footprint.end(), limit));
}

}  // namespace

absl::StatusOr<GuestRange> LoadInitrd(int fd, const KernelImage& kernel, GuestMemory& memory) {
  ASSIGN_OR_RETURN(const ImageFile file, ImageFile::Open(fd, ImageFile::Kind::kInitrd));
  const uint64_t limit = std::min(LowRamEnd(memory), kernel.initrd_max + 1);
  if (file.size() > limit) return DoesNotFit(file, kernel, limit);
  const GuestRange place = {(limit - file.size()) & ~kPageMask, file.size()};
  if (place.start < layout::kHighMemory || place.Overlaps(kernel.footprint))
    return DoesNotFit(file, kernel, limit);
  RETURN_IF_ERROR(file.ReadInto(memory, place.start, 0, place.size));
  return place;
}

}  // namespace drover
