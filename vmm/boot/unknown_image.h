#ifndef DROVER_VMM_BOOT_UNKNOWN_IMAGE_H_
#define DROVER_VMM_BOOT_UNKNOWN_IMAGE_H_

#include "absl/status/status.h"
#include "vmm/boot/image_file.h"

namespace drover {

// The error for a kernel that no loader takes: says what it is where its first bytes tell.
absl::Status DescribeUnknownImage(const ImageFile& file);

}  // namespace drover

#endif  // DROVER_VMM_BOOT_UNKNOWN_IMAGE_H_
