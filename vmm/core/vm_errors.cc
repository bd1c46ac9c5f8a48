#include "vmm/core/vm_errors.h"

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "vmm/base/status.h"

namespace drover {

absl::Status UnknownSlot(MemorySlot slot) {
  return WithPosixErrno(absl::NotFoundError(absl::StrCat("memory slot ", slot, ": there is none")),
                        ENOENT);
}

absl::Status Malformed(absl::string_view what) {
  return WithPosixErrno(absl::InvalidArgumentError(what), EINVAL);
}

absl::Status OutsideRegion(absl::string_view what) {
  return WithPosixErrno(absl::OutOfRangeError(absl::StrCat(what, ": out of range")), EFAULT);
}

absl::Status Wraps(absl::string_view what) {
  return WithPosixErrno(absl::OutOfRangeError(absl::StrCat(what, ": wraps around")), EOVERFLOW);
}

absl::Status AlreadyThere(absl::string_view what) {
  return WithPosixErrno(absl::AlreadyExistsError(what), EEXIST);
}

absl::Status Unsupported(absl::string_view what) {
  return WithPosixErrno(absl::UnimplementedError(absl::StrCat(what, ": not on this host")),
                        EOPNOTSUPP);
}

absl::Status CheckPhysicalBits(uint64_t address, uint64_t size, uint32_t bits) {
  if (bits == 0 || bits >= 64 || address + size <= uint64_t{1} << bits) return absl::OkStatus();
  return OutsideRegion(
      absl::StrFormat("memory at %#x of %#x bytes, guest-physical addresses of %u "
                      "bits",
                      address, size, bits));
}

}  // namespace drover
