#include "vmm/base/mapped_region.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"

namespace drover {

MappedRegion::~MappedRegion() {
  if (data_ != nullptr) munmap(data_, size_);
}

MappedRegion::MappedRegion(MappedRegion&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedRegion& MappedRegion::operator=(MappedRegion&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

absl::StatusOr<MappedRegion> MappedRegion::Map(int fd, uint64_t offset, size_t size, int prot,
                                               int flags) {
  if (size == 0) return PosixStatus(EINVAL, "mmap", "of 0 bytes");
  const size_t rounded = RoundUpToPage(size);
  void* at = mmap(nullptr, rounded, prot, flags, fd, static_cast<off_t>(offset));
  if (at == MAP_FAILED) return PosixStatus(errno, "mmap", absl::StrCat("of ", size, " bytes"));
  return MappedRegion(static_cast<uint8_t*>(at), rounded);
}

absl::StatusOr<MappedRegion> MappedRegion::MapShared(int fd, uint64_t offset, size_t size,
                                                     int prot) {
  return Map(fd, offset, size, prot, MAP_SHARED | MAP_NORESERVE);
}

absl::StatusOr<MappedRegion> MappedRegion::MapReserved(int fd, uint64_t offset, size_t size,
                                                       int prot) {
  return Map(fd, offset, size, prot, MAP_SHARED);
}

absl::StatusOr<MappedRegion> MappedRegion::MapPrivate(int fd, uint64_t offset, size_t size,
                                                      int prot) {
  return Map(fd, offset, size, prot, MAP_PRIVATE | MAP_NORESERVE);
}

absl::StatusOr<MappedRegion> MappedRegion::Anonymous(size_t size, int prot) {
  return Map(-1, 0, size, prot, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE);
}

size_t PageSize() {
  static const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

uint64_t RoundUpToPage(uint64_t bytes) {
  const uint64_t mask = PageSize() - 1;
  return bytes > ~mask ? ~mask : (bytes + mask) & ~mask;
}

}  // namespace drover
