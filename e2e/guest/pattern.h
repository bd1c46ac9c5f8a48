// The pattern that the test guest writes into the pages it touches, so that a host-side test can
// check guest memory by itself. Pages of a range are written in turn, over and over; a page's
// generation is how often it was written (1 = once), so a page that lost its last write is told
// from one that is right.
#ifndef E2E_GUEST_PATTERN_H_
#define E2E_GUEST_PATTERN_H_

#include <stdint.h>

namespace guest {

inline constexpr uint64_t kPageSize = 4096;
inline constexpr uint64_t kPatternStep = 0x9e3779b97f4a7c15;

// The first 8 bytes of the page at guest-physical `address` in `generation`.
constexpr uint64_t PatternStart(uint64_t seed, uint64_t address, uint64_t generation) {
  uint64_t x = seed * 0xd1342543de82ef95 + address + (generation << 48);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// The index-th little-endian 8 bytes of a page whose first 8 are `start`.
constexpr uint64_t PatternWord(uint64_t start, uint64_t index) {
  return start + index * kPatternStep;
}

// How often page `index` of `pages` was written after `writes` page writes in all.
constexpr uint64_t PatternGeneration(uint64_t writes, uint64_t pages, uint64_t index) {
  return writes / pages + (index < writes % pages ? 1 : 0);
}

}  // namespace guest

#endif  // E2E_GUEST_PATTERN_H_
