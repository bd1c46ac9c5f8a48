#ifndef DROVER_VMM_CORE_MEMORY_REGION_H_
#define DROVER_VMM_CORE_MEMORY_REGION_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/fd.h"
#include "vmm/base/mapped_region.h"

namespace drover {

using MemorySlot = uint32_t;

enum class CacheType { kCoherent, kNonCoherent };
enum class Protection { kRead, kReadWrite };

// Memory that a VM maps besides its initial RAM: the VM owns it while it is added, and gives it
// back. Thread-compatible; a VM calls AddMapping and RemoveMapping under its own lock.
class MemoryRegion {
 public:
  virtual ~MemoryRegion() = default;
  virtual uint8_t* data() const = 0;
  virtual uint64_t size() const = 0;

  // Vm::AddFdMapping and RemoveMapping on this region, whose ranges the VM has checked.
  // UNIMPLEMENTED unless the region is an arena.
  virtual absl::Status AddMapping(uint64_t offset, uint64_t size, const Fd& fd, uint64_t fd_offset,
                                  Protection protection);
  virtual absl::Status RemoveMapping(uint64_t offset, uint64_t size);
};

// A region that is one mapping.
class PlainRegion : public MemoryRegion {
 public:
  explicit PlainRegion(MappedRegion mapping) : mapping_(std::move(mapping)) {}
  // Shared anonymous memory of zeros, `size` bytes (rounded up to pages, not 0).
  static absl::StatusOr<std::unique_ptr<MemoryRegion>> Anonymous(uint64_t size);

  uint8_t* data() const override { return mapping_.data(); }
  uint64_t size() const override { return mapping_.size(); }

 private:
  MappedRegion mapping_;
};

// A region of read-only zeros into which pieces of files are mapped.
class MemoryArena : public MemoryRegion {
 public:
  static absl::StatusOr<std::unique_ptr<MemoryRegion>> Create(uint64_t size);

  uint8_t* data() const override { return mapping_.data(); }
  uint64_t size() const override { return mapping_.size(); }
  absl::Status AddMapping(uint64_t offset, uint64_t size, const Fd& fd, uint64_t fd_offset,
                          Protection protection) override;
  absl::Status RemoveMapping(uint64_t offset, uint64_t size) override;

 private:
  explicit MemoryArena(MappedRegion mapping) : mapping_(std::move(mapping)) {}

  MappedRegion mapping_;
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_MEMORY_REGION_H_
