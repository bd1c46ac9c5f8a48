#include "e2e/guest/pattern.h"

#include <gtest/gtest.h>

#include <set>

namespace guest {
namespace {

TEST(Pattern, DiffersBySeedAddressAndGeneration) {
  std::set<uint64_t> starts;
  for (uint64_t seed = 0; seed < 4; seed++) {
    for (uint64_t page = 0; page < 256; page++) {
      for (uint64_t generation = 1; generation < 16; generation++) {
        starts.insert(PatternStart(seed, page * kPageSize, generation));
      }
    }
  }
  EXPECT_EQ(starts.size(), 4u * 256 * 15);
}

// The guest writes pages 0, 1, ..., n-1, 0, 1, ...: counted here one by one.
TEST(Pattern, GenerationCountsTheWritesOfOnePage) {
  constexpr uint64_t kPages = 5;
  uint64_t written[kPages] = {};
  for (uint64_t writes = 0; writes < 23; writes++) {
    for (uint64_t i = 0; i < kPages; i++)
      EXPECT_EQ(PatternGeneration(writes, kPages, i), written[i]);
    written[writes % kPages]++;
  }
}

}  // namespace
}  // namespace guest
