#include "vmm/core/page_set.h"

#include <algorithm>

namespace drover {

const PageSet::Region* PageSet::Find(MemorySlot slot) const {
  for (const Region& region : regions_)
    if (region.slot == slot) return &region;
  return nullptr;
}

std::span<uint64_t> PageSet::WordsOf(MemorySlot slot, const GuestRange& range) {
  for (Region& region : regions_)
    if (region.slot == slot && region.range == range) return region.words;
  std::erase_if(regions_, [&](const Region& region) {
    return region.slot == slot || region.range.Overlaps(range);
  });
  const auto after = std::find_if(regions_.begin(), regions_.end(), [&](const Region& region) {
    return region.range.start > range.start;
  });
  return regions_.insert(after, {slot, range, PageWords(PageWordCount(range.size / kPageBytes))})
      ->words;
}

void PageSet::Add(uint64_t address, uint64_t size) {
  if (size == 0) return;
  const uint64_t last = address + (size - 1) < address ? ~uint64_t{0} : address + (size - 1);
  for (Region& region : regions_) {
    const uint64_t from = std::max(address, region.range.start);
    const uint64_t to = std::min(last, region.range.end() - 1);
    if (from > to) continue;
    const uint64_t first_page = (from - region.range.start) / kPageBytes;
    SetPages(region.words, first_page, (to - region.range.start) / kPageBytes - first_page + 1);
  }
}

void PageSet::Merge(const PageSet& other) {
  for (const Region& region : other.regions_)
    MergeWords(WordsOf(region.slot, region.range), region.words);
}

void PageSet::Clear() {
  for (Region& region : regions_) std::fill(region.words.begin(), region.words.end(), 0);
}

uint64_t PageSet::Count() const {
  uint64_t count = 0;
  for (const Region& region : regions_) count += CountPages(region.words);
  return count;
}

bool PageSet::empty() const {
  return std::none_of(regions_.begin(), regions_.end(),
                      [](const Region& region) { return AnyPage(region.words); });
}

bool PageSet::Contains(uint64_t address) const {
  for (const Region& region : regions_)
    if (region.range.Contains(address))
      return region.Has((address - region.range.start) / kPageBytes);
  return false;
}

std::vector<GuestRange> PageSet::Ranges() const {
  std::vector<GuestRange> ranges;
  ForEachRun([&](const Region& region, uint64_t first, uint64_t pages) {
    ranges.push_back({region.range.start + first * kPageBytes, pages * kPageBytes});
  });
  return ranges;
}

}  // namespace drover
