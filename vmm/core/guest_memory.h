#ifndef DROVER_VMM_CORE_GUEST_MEMORY_H_
#define DROVER_VMM_CORE_GUEST_MEMORY_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/fd.h"
#include "vmm/base/mapped_region.h"
#include "vmm/core/page_bitmap.h"

namespace drover {

// A range of guest-physical addresses, half-open, in bytes.
struct GuestRange {
  uint64_t start = 0;
  uint64_t size = 0;
  uint64_t end() const { return start + size; }
  bool Contains(uint64_t address) const { return address >= start && address - start < size; }
  bool Overlaps(const GuestRange& other) const {
    return start < other.end() && other.start < end();
  }
  bool operator==(const GuestRange&) const = default;
};

// One contiguous piece of guest RAM, backed by a memfd at `file_offset`, mapped into this process.
struct GuestRegion {
  GuestRange range;
  uint64_t file_offset = 0;
  uint8_t* host = nullptr;
};

// What guest memory is made of: the host's own pages when they are touched, or 2 MiB pages of
// hugetlb, all set aside when it is made.
enum class MemoryBacking { kPages, kHugePages };

// The guest's initial RAM: one memfd for all regions, mapped shared. Bounds-checked access for the
// VMM; the bytes are guest-controlled and may change at any time, so each is read once.
// Thread-safe; the bytes race with the guest as on a real machine.
//
// Write tracking is the VMM's and the devices' part of a DirtyLog (dirty_log.h): while it is on,
// the pages that Write, Clear, Discard and MarkDirty touch are noted, without a lock; while it is
// off that costs a fence and a load.
class GuestMemory {
 public:
  // RAM of these sizes at these guest-physical addresses: page-aligned, ascending, not overlapping,
  // not empty. INVALID_ARGUMENT names the offender; RESOURCE_EXHAUSTED / UNAVAILABLE from memfd and
  // mmap, such as for more huge pages than the host has free.
  static absl::StatusOr<std::unique_ptr<GuestMemory>> Create(
      const std::vector<GuestRange>& ranges, MemoryBacking backing = MemoryBacking::kPages);

  const std::vector<GuestRegion>& regions() const { return regions_; }
  int fd() const { return fd_.get(); }
  uint64_t size() const { return size_; }
  MemoryBacking backing() const { return backing_; }

  // Copies to or from guest memory; OUT_OF_RANGE unless the whole range is RAM (it may span
  // adjacent regions).
  absl::Status Read(uint64_t address, std::span<uint8_t> out) const;
  absl::Status Write(uint64_t address, std::span<const uint8_t> data);

  // The host bytes of [address, address + size), which must lie in one region; OUT_OF_RANGE
  // otherwise. Whoever writes to them calls MarkDirty when the bytes are written, not before.
  absl::StatusOr<std::span<uint8_t>> HostRange(uint64_t address, uint64_t size);

  // The pages of [address, address + size) that are RAM were written through host addresses. What
  // was written before this call is in the memory of whoever takes the pages.
  void MarkDirty(uint64_t address, uint64_t size);
  // Turns write tracking on, with no page noted, or off. A write that is over when this returns may
  // be noted or not; no later one is missed. One thread at a time (DirtyLog's lock).
  void SetWriteTracking(bool on);
  // ORs the pages of regions()[region] that were noted into `words`, bit i for page i, and forgets
  // them. Returns false when there were none. One thread at a time.
  bool TakeWrites(size_t region, std::span<uint64_t> words);

  // Makes every byte zero again and gives the host memory back (hole punching). Huge pages stay:
  // given back, they could be another's when the guest needs them, and it would die.
  absl::Status Clear();
  // Gives the host memory of a page-aligned range back, but for huge pages; it reads as zeros
  // afterwards.
  absl::Status Discard(uint64_t address, uint64_t size);

 private:
  GuestMemory(Fd fd, MappedRegion mapping, std::vector<GuestRegion> regions, uint64_t size,
              MemoryBacking backing);
  absl::Status PunchHole(uint64_t offset, uint64_t size);

  Fd fd_;
  MappedRegion mapping_;
  std::vector<GuestRegion> regions_;
  uint64_t size_;
  const MemoryBacking backing_;
  std::atomic<bool> tracking_{false};
  // By region; made when tracking is first turned on, and then never changed.
  std::vector<std::unique_ptr<AtomicPageBitmap>> writes_;
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_GUEST_MEMORY_H_
