#include "vmm/boot/image_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

const char* NameOf(ImageFile::Kind kind) {
  return kind == ImageFile::Kind::kKernel ? "kernel" : "initrd";
}
const char* PrefixOf(ImageFile::Kind kind) {
  return kind == ImageFile::Kind::kKernel ? "KERNEL" : "INITRD";
}
const char* FieldFor(ImageFile::Kind kind) {
  return kind == ImageFile::Kind::kKernel ? kKernelField : kInitrdField;
}

absl::Status Empty(ImageFile::Kind kind) {
  if (kind == ImageFile::Kind::kKernel)
    return KernelError("KERNEL_TRUNCATED", "the kernel is empty (0 bytes): give a kernel image");
  return BootError(kInitrdField, "INITRD_EMPTY",
                   "the initrd is empty (0 bytes): give an initrd, or leave the field out");
}

}  // namespace

absl::Status BootError(absl::string_view field, absl::string_view reason,
                       absl::string_view message) {
  return WithField(WithReason(absl::InvalidArgumentError(message), reason), field);
}

absl::Status KernelError(absl::string_view reason, absl::string_view message) {
  return BootError(kKernelField, reason, message);
}

absl::Status ImageFile::Unreadable(const absl::Status& cause) const {
  return BootError(FieldFor(kind_), absl::StrCat(PrefixOf(kind_), "_UNREADABLE"),
                   absl::StrCat("the ", NameOf(kind_), " cannot be read: ", cause.message()));
}

absl::Status ImageFile::Truncated(uint64_t offset) const {
  return BootError(
      FieldFor(kind_), absl::StrCat(PrefixOf(kind_), "_TRUNCATED"),
      absl::StrFormat("the %s ends at %u of its %u bytes: it changed while it was read; try again",
                      NameOf(kind_), offset, size_));
}

absl::StatusOr<ImageFile> ImageFile::Open(int fd, Kind kind) {
  ImageFile file(fd, kind, 0);
  struct stat info;
  if (fstat(fd, &info) != 0) return file.Unreadable(PosixStatus(errno, "fstat", NameOf(kind)));
  if (!S_ISREG(info.st_mode))
    return file.Unreadable(absl::InvalidArgumentError("not a regular file; give one"));
  if (info.st_size <= 0) return Empty(kind);
  file.size_ = static_cast<uint64_t>(info.st_size);
  if (kind == Kind::kKernel)
    RETURN_IF_ERROR(file.ReadAt(0, {file.head_.data(), file.head().size()}));
  return file;
}

std::span<const uint8_t> ImageFile::head() const {
  return {head_.data(), static_cast<size_t>(std::min<uint64_t>(size_, kHeadSize))};
}

absl::Status ImageFile::ReadAt(uint64_t offset, std::span<uint8_t> out) const {
  if (!Holds(offset, out.size())) return Truncated(size_);
  while (!out.empty()) {
    const ssize_t n = pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Unreadable(PosixStatus(errno, "pread", NameOf(kind_)));
    if (n == 0) return Truncated(offset);
    out = out.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return absl::OkStatus();
}

absl::Status ImageFile::ReadInto(GuestMemory& memory, uint64_t address, uint64_t offset,
                                 uint64_t size) const {
  ASSIGN_OR_RETURN(const std::span<uint8_t> host, memory.HostRange(address, size));
  const absl::Status read = ReadAt(offset, host);
  memory.MarkDirty(address, size);
  return read;
}

}  // namespace drover
