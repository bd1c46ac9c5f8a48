#include "vmm/boot/unknown_image.h"

#include <algorithm>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace drover {
namespace {

struct Signature {
  size_t offset;
  absl::string_view bytes;
  const char* reason;
  const char* message;
};

constexpr size_t kShortestImage = 0x206;  // to the end of a bzImage's magic

constexpr char kWrongArchitecture[] = "KERNEL_WRONG_ARCHITECTURE";
constexpr char kUnknown[] = "KERNEL_FORMAT_UNKNOWN";

// The more specific first: an arm64 Image may also begin as a PE ("MZ").
const Signature kSignatures[] = {
    {0x38, "ARM\x64", kWrongArchitecture,
     "the kernel is an arm64 Image, this VM is x86-64: give a kernel built for x86-64"},
    {0x38, "RSC\x05", kWrongArchitecture,
     "the kernel is a RISC-V Image, this VM is x86-64: give a kernel built for x86-64"},
    {0x24, "\x18\x28\x6f\x01", kWrongArchitecture,
     "the kernel is an ARM zImage, this VM is x86-64: give a kernel built for x86-64"},
    {0x04, "zimg", kUnknown, "the kernel is an EFI zboot image: give a bzImage or an ELF"},
    {0, "\x1f\x8b", kUnknown, "the kernel is a gzip file: decompress it"},
    {0, "\x28\xb5\x2f\xfd", kUnknown, "the kernel is a zstd file: decompress it"},
    {0,
     "\xfd"
     "7zXZ",
     kUnknown, "the kernel is an xz file: decompress it"},
    {0, "BZh", kUnknown, "the kernel is a bzip2 file: decompress it"},
    {0, "MZ", kUnknown,
     "the kernel is a PE (EFI) program without a Linux/x86 boot header: give a bzImage or an ELF"},
};

}  // namespace

absl::Status DescribeUnknownImage(const ImageFile& file) {
  const absl::string_view head(reinterpret_cast<const char*>(file.head().data()),
                               file.head().size());
  for (const Signature& signature : kSignatures)
    if (head.size() >= signature.offset &&
        head.substr(signature.offset, signature.bytes.size()) == signature.bytes)
      return KernelError(signature.reason, signature.message);
  if (file.size() < kShortestImage)
    return KernelError("KERNEL_TRUNCATED",
                       absl::StrCat("the kernel file has ", file.size(),
                                    " bytes, too few for any kernel: give the whole file"));
  return KernelError(kUnknown,
                     absl::StrCat("the kernel begins with \"", absl::CHexEscape(head.substr(0, 8)),
                                  "\", which is neither an ELF nor a bzImage: give one of these"));
}

}  // namespace drover
