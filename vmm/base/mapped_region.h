#ifndef DROVER_VMM_BASE_MAPPED_REGION_H_
#define DROVER_VMM_BASE_MAPPED_REGION_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"

namespace drover {

// Owns one mmap(2)ed range of page-aligned size. Move-only; thread-compatible; the bytes are
// whoever's shares them.
class MappedRegion {
 public:
  MappedRegion() = default;
  ~MappedRegion();
  MappedRegion(MappedRegion&& other) noexcept;
  MappedRegion& operator=(MappedRegion&& other) noexcept;
  MappedRegion(const MappedRegion&) = delete;
  MappedRegion& operator=(const MappedRegion&) = delete;

  // Maps `size` bytes (rounded up to pages, not 0) of `fd` from `offset`, shared, with `prot` of
  // mmap(2).
  static absl::StatusOr<MappedRegion> MapShared(int fd, uint64_t offset, size_t size, int prot);
  // The same, with all its memory set aside for it at once: of a hugetlb file, where memory that is
  // not there ends the process. RESOURCE_EXHAUSTED (ENOMEM) when the host has not got so much.
  static absl::StatusOr<MappedRegion> MapReserved(int fd, uint64_t offset, size_t size, int prot);
  // Private copy-on-write mapping of `fd`.
  static absl::StatusOr<MappedRegion> MapPrivate(int fd, uint64_t offset, size_t size, int prot);
  // Shared anonymous memory, not reserved.
  static absl::StatusOr<MappedRegion> Anonymous(size_t size, int prot);

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  bool valid() const { return data_ != nullptr; }
  std::span<uint8_t> bytes() const { return {data_, size_}; }

 private:
  MappedRegion(uint8_t* data, size_t size) : data_(data), size_(size) {}
  static absl::StatusOr<MappedRegion> Map(int fd, uint64_t offset, size_t size, int prot,
                                          int flags);

  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// The host's page size in bytes, and `bytes` rounded up to it (saturating at the largest page
// multiple).
size_t PageSize();
uint64_t RoundUpToPage(uint64_t bytes);

}  // namespace drover

#endif  // DROVER_VMM_BASE_MAPPED_REGION_H_
