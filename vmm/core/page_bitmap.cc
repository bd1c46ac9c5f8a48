#include "vmm/core/page_bitmap.h"

#include <algorithm>

namespace drover {
namespace {

// Calls `apply(word, mask)` for each word that holds pages of [first, first + count).
template <typename Apply>
void ForEachWord(uint64_t first, uint64_t count, Apply apply) {
  const uint64_t end = first + count;
  while (first < end) {
    const uint64_t bits = std::min(end - first, 64 - first % 64);
    apply(first / 64, (bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1) << first % 64);
    first += bits;
  }
}

// Bits set in one word, without an instruction for it, so that loops over words are vectorized.
uint64_t CountBits(uint64_t word) {
  word -= (word >> 1) & 0x5555555555555555;
  word = (word & 0x3333333333333333) + ((word >> 2) & 0x3333333333333333);
  word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0F;
  word += word >> 8;
  word += word >> 16;
  return (word + (word >> 32)) & 0x7F;
}

}  // namespace

void MergeWords(std::span<uint64_t> into, std::span<const uint64_t> from) {
  uint64_t* const out = into.data();
  const uint64_t* const in = from.data();
  for (size_t i = 0; i < from.size(); ++i) out[i] |= in[i];
}

void MoveWords(std::span<uint64_t> into, std::span<uint64_t> from) {
  uint64_t* const out = into.data();
  uint64_t* const in = from.data();
  for (size_t i = 0; i < from.size(); ++i) {
    out[i] |= in[i];
    in[i] = 0;
  }
}

void SetPages(std::span<uint64_t> words, uint64_t first, uint64_t count) {
  ForEachWord(first, count, [&](uint64_t word, uint64_t mask) { words[word] |= mask; });
}

uint64_t CountPages(std::span<const uint64_t> words) {
  uint64_t count = 0;
  for (const uint64_t word : words) count += CountBits(word);
  return count;
}

bool AnyPage(std::span<const uint64_t> words) {
  constexpr size_t kBlock = 64;  // a fixed count, so that the loop is vectorized
  for (; words.size() >= kBlock; words = words.subspan(kBlock)) {
    const uint64_t* const block = words.data();
    uint64_t any = 0;
    for (size_t i = 0; i < kBlock; ++i) any |= block[i];
    if (any != 0) return true;
  }
  return std::any_of(words.begin(), words.end(), [](uint64_t word) { return word != 0; });
}

AtomicPageBitmap::AtomicPageBitmap(uint64_t pages)
    : pages_(pages), words_(std::make_unique<std::atomic<uint64_t>[]>(PageWordCount(pages))) {}

void AtomicPageBitmap::Set(uint64_t first, uint64_t count) {
  ForEachWord(first, count, [&](uint64_t word, uint64_t mask) { words_[word].fetch_or(mask); });
  if (!any_.load()) any_.store(true);
}

bool AtomicPageBitmap::TakeInto(std::span<uint64_t> words) {
  if (!any_.exchange(false)) return false;
  for (uint64_t i = 0; i < PageWordCount(pages_); ++i)
    if (words_[i].load(std::memory_order_relaxed) != 0) words[i] |= words_[i].exchange(0);
  return true;
}

void AtomicPageBitmap::Clear() {
  if (!any_.exchange(false)) return;
  for (uint64_t i = 0; i < PageWordCount(pages_); ++i) words_[i].exchange(0);
}

}  // namespace drover
