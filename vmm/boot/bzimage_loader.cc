#include "vmm/boot/bzimage_loader.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "vmm/base/status.h"
#include "vmm/boot/bytes.h"
#include "vmm/boot/linux_boot_params.h"

namespace drover {
namespace {

using namespace linux_boot;  // NOLINT(build/namespaces): the header's field names

constexpr uint64_t kSectorSize = 512;
constexpr uint64_t kParagraphSize = 16;

// The setup header's fields that loading needs, as the file has them.
struct SetupHeader {
  uint64_t setup_size;  // bytes of the real-mode part
  uint64_t kernel_size;
  uint64_t preferred_address;
  uint64_t init_size;
  uint32_t alignment;
  uint32_t initrd_max;
  uint32_t command_line_max;
};

absl::Status CheckVersion(std::span<const uint8_t> head) {
  const uint16_t version = LoadAt<uint16_t>(head, kVersion);
  if (version < kVersionWithXLoadFlags)
    return KernelError("KERNEL_FORMAT_UNKNOWN",
                       absl::StrFormat("the kernel's boot protocol is %u.%02u, at least 2.12 is "
                                       "needed: give Linux 3.8 or newer",
                                       version >> 8, version & 0xff));
  if ((LoadAt<uint16_t>(head, kXLoadFlags) & kXlfKernel64) == 0)
    return KernelError("KERNEL_WRONG_ARCHITECTURE",
                       "the kernel is a bzImage without a 64-bit entry (XLF_KERNEL_64), so for "
                       "32-bit x86: give a kernel built for x86-64");
  if ((head[kLoadFlags] & kLoadedHigh) == 0)
    return KernelError("KERNEL_FORMAT_UNKNOWN",
                       "the kernel is a zImage, loaded below 1 MiB: give a bzImage");
  return absl::OkStatus();
}

SetupHeader ParseFields(std::span<const uint8_t> head) {
  const uint64_t sectors = head[kSetupSects] == 0 ? 4 : head[kSetupSects];
  return {.setup_size = (sectors + 1) * kSectorSize,
          .kernel_size = LoadAt<uint32_t>(head, kSysSize) * kParagraphSize,
          .preferred_address = LoadAt<uint64_t>(head, kPreferredAddress),
          .init_size = LoadAt<uint32_t>(head, kInitSize),
          .alignment = LoadAt<uint32_t>(head, kKernelAlignment),
          .initrd_max = LoadAt<uint32_t>(head, kInitrdAddressMax),
          .command_line_max = LoadAt<uint32_t>(head, kCommandLineSize)};
}

absl::Status CheckFields(const ImageFile& file, const SetupHeader& header) {
  if (header.kernel_size <= kEntry64Offset)
    return KernelError("KERNEL_MALFORMED",
                       absl::StrFormat("the bzImage's kernel has %u bytes, too few for its 64-bit "
                                       "entry at 0x200; build it again",
                                       header.kernel_size));
  if (!file.Holds(header.setup_size, header.kernel_size))
    return KernelError("KERNEL_TRUNCATED",
                       absl::StrFormat("the kernel file has %u bytes, its setup header says %u: "
                                       "give the whole file",
                                       file.size(), header.setup_size + header.kernel_size));
  const bool aligned = header.alignment != 0 && (header.alignment & (header.alignment - 1)) == 0 &&
                       header.preferred_address % header.alignment == 0;
  if (!aligned)
    return KernelError(
        "KERNEL_MALFORMED",
        absl::StrFormat("the bzImage's preferred address %#x does not have its alignment %#x; "
                        "build it again",
                        header.preferred_address, header.alignment));
  return absl::OkStatus();
}

absl::StatusOr<SetupHeader> ParseSetupHeader(const ImageFile& file) {
  if (file.head().size() < kSetupHeaderEnd)
    return KernelError("KERNEL_TRUNCATED",
                       absl::StrFormat("the kernel file has %u bytes, a bzImage's header alone "
                                       "%u: give the whole file",
                                       file.size(), kSetupHeaderEnd));
  RETURN_IF_ERROR(CheckVersion(file.head()));
  const SetupHeader header = ParseFields(file.head());
  RETURN_IF_ERROR(CheckFields(file, header));
  return header;
}

// The header's bytes as far as the file says it goes.
std::vector<uint8_t> CopySetupHeader(std::span<const uint8_t> head) {
  const size_t end = std::min<size_t>(kHeaderMagic + head[kJumpOffset], kSetupHeaderEnd);
  return {head.begin() + kSetupHeader, head.begin() + static_cast<std::ptrdiff_t>(end)};
}

}  // namespace

bool IsBzImage(const ImageFile& file) {
  const std::span<const uint8_t> head = file.head();
  return head.size() >= kVersion && LoadAt<uint16_t>(head, kBootFlag) == kBootFlagValue &&
         LoadAt<uint32_t>(head, kHeaderMagic) == kHeaderMagicValue;
}

absl::StatusOr<KernelImage> LoadBzImage(const ImageFile& file, GuestMemory& memory) {
  ASSIGN_OR_RETURN(const SetupHeader header, ParseSetupHeader(file));
  KernelImage image;
  image.protocol = BootProtocol::kLinux64;
  image.entry = header.preferred_address + kEntry64Offset;
  image.footprint = {header.preferred_address, std::max(header.init_size, header.kernel_size)};
  image.initrd_max = header.initrd_max;
  image.command_line_max = header.command_line_max;
  image.setup_header = CopySetupHeader(file.head());
  RETURN_IF_ERROR(CheckKernelRange(memory, image.footprint, "image"));
  RETURN_IF_ERROR(
      file.ReadInto(memory, image.footprint.start, header.setup_size, header.kernel_size));
  return image;
}

}  // namespace drover
