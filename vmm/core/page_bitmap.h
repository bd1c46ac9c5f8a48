#ifndef DROVER_VMM_CORE_PAGE_BITMAP_H_
#define DROVER_VMM_CORE_PAGE_BITMAP_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace drover {

// One bit a page, in 64-bit words, bit i % 64 of word i / 64 for page i: the layout of
// KVM_GET_DIRTY_LOG. Bits beyond the last page are 0.
using PageWords = std::vector<uint64_t>;

constexpr uint64_t PageWordCount(uint64_t pages) { return (pages + 63) / 64; }

// `into` |= `from`, of the same length.
void MergeWords(std::span<uint64_t> into, std::span<const uint64_t> from);
// As MergeWords; `from` is empty afterwards.
void MoveWords(std::span<uint64_t> into, std::span<uint64_t> from);
// Sets the bits of the pages [first, first + count).
void SetPages(std::span<uint64_t> words, uint64_t first, uint64_t count);
// The bits that are set.
uint64_t CountPages(std::span<const uint64_t> words);
bool AnyPage(std::span<const uint64_t> words);

// Pages that were written, noted by any number of threads without a lock. Thread-safe.
class AtomicPageBitmap {
 public:
  explicit AtomicPageBitmap(uint64_t pages);

  uint64_t pages() const { return pages_; }
  // Notes the pages [first, first + count); what this thread wrote before is seen by whoever takes
  // them.
  void Set(uint64_t first, uint64_t count);
  // ORs all noted pages into `words`, of PageWordCount(pages()), and forgets them. Returns false
  // when there were none.
  bool TakeInto(std::span<uint64_t> words);
  void Clear();

 private:
  const uint64_t pages_;
  std::atomic<bool> any_{false};  // set after a word, taken before the words
  const std::unique_ptr<std::atomic<uint64_t>[]> words_;
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_PAGE_BITMAP_H_
