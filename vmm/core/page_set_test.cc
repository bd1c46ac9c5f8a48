#include "vmm/core/page_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <thread>

namespace drover {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t kPage = PageSet::kPageBytes;

TEST(PageWords, SetAndCount) {
  PageWords words(4);
  SetPages(words, 63, 2);
  EXPECT_THAT(words, ElementsAre(uint64_t{1} << 63, 1, 0, 0));
  SetPages(words, 64, 128);
  EXPECT_THAT(words, ElementsAre(uint64_t{1} << 63, ~uint64_t{0}, ~uint64_t{0}, 0));
  EXPECT_EQ(CountPages(words), 129u);
  SetPages(words, 200, 0);
  EXPECT_EQ(CountPages(words), 129u);
  PageWords moved(4);
  MoveWords(moved, words);
  EXPECT_FALSE(AnyPage(words));
  EXPECT_EQ(CountPages(moved), 129u);
}

TEST(PageSet, KeepsRegionsInOrderOfAddresses) {
  PageSet set;
  set.WordsOf(0, {100 * kPage, kPage});
  set.WordsOf(1, {0, 10 * kPage});
  ASSERT_EQ(set.regions().size(), 2u);
  EXPECT_EQ(set.regions()[0].slot, 1u);
  EXPECT_EQ(set.Find(0)->range.start, 100 * kPage);
  EXPECT_EQ(set.Find(7), nullptr);
}

TEST(PageSet, AddsAndFindsPages) {
  PageSet set;
  set.WordsOf(0, {0, 10 * kPage});
  set.WordsOf(1, {10 * kPage, 70 * kPage});
  EXPECT_TRUE(set.empty());
  set.Add(9 * kPage + 5, kPage);  // over the border
  set.Add(~uint64_t{0} - 5, 100);
  set.Add(3 * kPage, 0);
  EXPECT_EQ(set.Count(), 2u);
  EXPECT_TRUE(set.Contains(9 * kPage));
  EXPECT_TRUE(set.Contains(10 * kPage + 17));
  EXPECT_FALSE(set.Contains(11 * kPage));
  EXPECT_FALSE(set.Contains(1000 * kPage));
  EXPECT_THAT(set.Ranges(),
              ElementsAre(GuestRange{9 * kPage, kPage}, GuestRange{10 * kPage, kPage}));
  set.Add(0, ~uint64_t{0});
  EXPECT_EQ(set.Count(), 80u);
  EXPECT_THAT(set.Ranges(),
              ElementsAre(GuestRange{0, 10 * kPage}, GuestRange{10 * kPage, 70 * kPage}));
  set.Clear();
  EXPECT_TRUE(set.empty());
  EXPECT_THAT(set.Ranges(), IsEmpty());
}

TEST(PageSet, MergesAndDropsWhatIsMemoryNoMore) {
  PageSet set, other;
  set.WordsOf(0, {0, 8 * kPage})[0] = 1;
  set.WordsOf(1, {8 * kPage, 8 * kPage})[0] = 2;
  other.WordsOf(0, {0, 8 * kPage})[0] = 4;
  other.WordsOf(2, {12 * kPage, 8 * kPage})[0] = 8;  // where slot 1 was
  set.Merge(other);
  ASSERT_EQ(set.regions().size(), 2u);
  EXPECT_THAT(set.regions()[0].words, ElementsAre(5));
  EXPECT_EQ(set.regions()[1].slot, 2u);
  set.WordsOf(2, {12 * kPage, 4 * kPage});
  EXPECT_EQ(set.Count(), 2u) << "another size: another region";
}

TEST(PageSet, RunsAreWhatASetOfPagesSays) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    const uint64_t pages = 1 + random() % 300;
    PageSet set;
    std::set<uint64_t> expected, found;
    const std::span<uint64_t> words = set.WordsOf(0, {0, pages * kPage});
    for (uint64_t i = random() % 12; i > 0; --i) {
      const uint64_t first = random() % pages;
      const uint64_t count = std::min(pages - first, random() % 150);
      SetPages(words, first, count);
      for (uint64_t page = first; page < first + count; ++page) expected.insert(page);
    }
    uint64_t previous_end = 0;
    set.ForEachRun([&](const PageSet::Region&, uint64_t first, uint64_t count) {
      EXPECT_GT(count, 0u);
      EXPECT_TRUE(found.empty() || first > previous_end) << "not as long as can be";
      previous_end = first + count;
      for (uint64_t page = first; page < first + count; ++page) found.insert(page);
    });
    ASSERT_EQ(found, expected) << "round " << round;
    ASSERT_EQ(set.Count(), expected.size());
  }
}

TEST(AtomicPageBitmap, NothingNotedIsLost) {
  constexpr uint64_t kPages = 1000, kTimes = 20000;
  AtomicPageBitmap bitmap(kPages);
  std::atomic<bool> done = false;
  PageWords taken(PageWordCount(kPages));
  std::thread taker([&] {
    while (!done) bitmap.TakeInto(taken);
  });
  std::vector<std::thread> writers;
  for (uint64_t t = 0; t < 3; ++t)
    writers.emplace_back([&bitmap, t] {
      for (uint64_t i = 0; i < kTimes; ++i) bitmap.Set((i * 7 + t * 333) % (kPages - 1), 2);
    });
  for (std::thread& writer : writers) writer.join();
  done = true;
  taker.join();
  bitmap.TakeInto(taken);
  EXPECT_EQ(CountPages(taken), kPages);
  PageWords rest(taken.size());
  bitmap.TakeInto(rest);
  EXPECT_FALSE(AnyPage(rest));
}

}  // namespace
}  // namespace drover
