#ifndef DROVER_VMM_CORE_PAGE_SET_H_
#define DROVER_VMM_CORE_PAGE_SET_H_

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/core/guest_memory.h"
#include "vmm/core/memory_region.h"
#include "vmm/core/page_bitmap.h"

namespace drover {

// A set of pages of a VM's memory: a bitmap for each memory region, 32 KiB for each GiB of guest
// memory. Thread-compatible.
class PageSet {
 public:
  struct Region {
    MemorySlot slot = 0;
    GuestRange range;
    PageWords words;

    uint64_t pages() const { return range.size / kPageBytes; }
    bool Has(uint64_t page) const { return (words[page / 64] >> page % 64 & 1) != 0; }
  };
  static constexpr uint64_t kPageBytes = 4096;

  // In the order of guest-physical addresses; none overlap.
  const std::vector<Region>& regions() const { return regions_; }
  // nullptr where the set knows no region of this slot.
  const Region* Find(MemorySlot slot) const;

  // The words of the region `range` in `slot`, made empty when it is new. Regions of that slot with
  // another range, and regions that overlap, are dropped: they are memory no more. Valid until the
  // next call of a method that is not const.
  std::span<uint64_t> WordsOf(MemorySlot slot, const GuestRange& range);
  // Adds whatever pages of [address, address + size) are in regions of the set.
  void Add(uint64_t address, uint64_t size);
  // Adds the pages of `other`, as WordsOf would.
  void Merge(const PageSet& other);
  // Keeps the regions, empty.
  void Clear();

  uint64_t Count() const;  // pages
  bool empty() const;
  bool Contains(uint64_t address) const;

  // Calls `visit(const Region&, uint64_t first_page, uint64_t pages)` for each run of pages, as
  // long as can be within its region, ascending; page numbers count from the region's start.
  template <typename Visit>
  void ForEachRun(Visit visit) const {
    for (const Region& region : regions_) ForEachRunOf(region, visit);
  }
  // The same as guest-physical ranges in bytes.
  std::vector<GuestRange> Ranges() const;

 private:
  template <typename Visit>
  static void ForEachRunOf(const Region& region, Visit visit);

  std::vector<Region> regions_;
};

template <typename Visit>
void PageSet::ForEachRunOf(const Region& region, Visit visit) {
  uint64_t run = 0, length = 0;  // the run that ends where the loop is
  const auto end_run = [&] {
    if (length != 0) visit(region, run, length);
    length = 0;
  };
  for (uint64_t i = 0; i < region.words.size(); ++i) {
    uint64_t word = region.words[i];
    if (word == 0 || (word & 1) == 0) end_run();
    for (uint64_t bit = 0; word != 0;) {
      const int zeros = std::countr_zero(word);
      if (zeros != 0) end_run();
      bit += static_cast<uint64_t>(zeros);
      word >>= zeros;
      const int ones = std::countr_one(word);
      if (length == 0) run = i * 64 + bit;
      length += static_cast<uint64_t>(ones);
      bit += static_cast<uint64_t>(ones);
      word = ones == 64 ? 0 : word >> ones;
      if (bit < 64) end_run();
    }
  }
  end_run();
}

}  // namespace drover

#endif  // DROVER_VMM_CORE_PAGE_SET_H_
