#include "vmm/core/guest_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using absl::StatusCode;
using testing::Each;
using testing::ElementsAre;

constexpr uint64_t kPage = 4096;

std::unique_ptr<GuestMemory> TwoRegions() {
  return GuestMemory::Create({{0, 2 * kPage}, {2 * kPage, kPage}, {8 * kPage, kPage}}).value();
}

TEST(GuestMemory, RefusesBadRanges) {
  const std::vector<std::vector<GuestRange>> bad = {
      {},
      {{0, 0}},
      {{1, kPage}},
      {{0, kPage + 1}},
      {{kPage, kPage}, {0, kPage}},
      {{0, 2 * kPage}, {kPage, kPage}},
      {{~(kPage - 1), 2 * kPage}},
  };
  for (const std::vector<GuestRange>& ranges : bad)
    EXPECT_THAT(GuestMemory::Create(ranges), StatusIs(StatusCode::kInvalidArgument));
}

TEST(GuestMemory, RegionsShareOneFile) {
  const auto memory = TwoRegions();
  EXPECT_EQ(memory->size(), 4 * kPage);
  EXPECT_EQ(memory->regions()[2].file_offset, 3 * kPage);
  memory->regions()[2].host[5] = 7;
  uint8_t byte = 0;
  ASSERT_EQ(pread(memory->fd(), &byte, 1, 3 * kPage + 5), 1);
  EXPECT_EQ(byte, 7);
}

TEST(GuestMemory, AccessSpansAdjacentRegions) {
  const auto memory = TwoRegions();
  const uint8_t data[] = {1, 2, 3, 4};
  ASSERT_OK(memory->Write(2 * kPage - 2, data));
  uint8_t read[4] = {};
  ASSERT_OK(memory->Read(2 * kPage - 2, read));
  EXPECT_THAT(read, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(memory->HostRange(2 * kPage - 2, 4), StatusIs(StatusCode::kOutOfRange));
}

TEST(GuestMemory, AnythingOutsideIsRefusedWhole) {
  const auto memory = TwoRegions();
  const std::vector<uint8_t> ones(2 * kPage, 1);
  EXPECT_THAT(memory->Write(3 * kPage - 1, std::span(ones).first(2)), HasErrno(EFAULT));
  EXPECT_THAT(memory->Write(5 * kPage, ones), StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(memory->Write(~uint64_t{0}, std::span(ones).first(2)),
              StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(memory->Write(8 * kPage, ones), StatusIs(StatusCode::kOutOfRange));
  uint8_t byte = 9;
  ASSERT_OK(memory->Read(3 * kPage - 1, {&byte, 1}));
  EXPECT_EQ(byte, 0) << "nothing was written";
  EXPECT_OK(memory->Read(77 * kPage, {})) << "nothing is everywhere";
}

TEST(GuestMemory, HostRange) {
  const auto memory = TwoRegions();
  ASSERT_OK_AND_ASSIGN(const std::span<uint8_t> host, memory->HostRange(8 * kPage + 1, kPage - 1));
  EXPECT_EQ(host.data(), memory->regions()[2].host + 1);
  EXPECT_THAT(memory->HostRange(8 * kPage + 1, kPage), StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(memory->HostRange(8 * kPage, ~uint64_t{0}), StatusIs(StatusCode::kOutOfRange));
}

TEST(GuestMemory, ClearGivesEverythingBack) {
  const auto memory = TwoRegions();
  const std::vector<uint8_t> ones(kPage, 1);
  ASSERT_OK(memory->Write(0, ones));
  ASSERT_OK(memory->Clear());
  std::vector<uint8_t> read(kPage, 1);
  ASSERT_OK(memory->Read(0, read));
  EXPECT_THAT(read, Each(0));
  ASSERT_OK(memory->Clear());
  struct stat st;
  ASSERT_EQ(fstat(memory->fd(), &st), 0);
  EXPECT_LE(st.st_blocks, static_cast<blkcnt_t>(kPage / 512)) << "the page that was read";
}

TEST(GuestMemory, DiscardGivesARangeBack) {
  const auto memory = TwoRegions();
  const std::vector<uint8_t> ones(2 * kPage, 1);
  ASSERT_OK(memory->Write(0, ones));
  ASSERT_OK(memory->Discard(kPage, kPage));
  uint8_t edge[2];
  ASSERT_OK(memory->Read(kPage - 1, edge));
  EXPECT_THAT(edge, ElementsAre(1, 0));
  EXPECT_THAT(memory->Discard(0, 3 * kPage), StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(memory->Discard(0, 1), HasErrno(EINVAL));
  EXPECT_THAT(memory->Discard(1, kPage), HasErrno(EINVAL));
  EXPECT_THAT(memory->Discard(0, 0), HasErrno(EINVAL));
}

PageWords Writes(GuestMemory& memory, size_t region) {
  PageWords words(1);
  memory.TakeWrites(region, words);
  return words;
}

TEST(GuestMemory, NotesWritesWhileTracked) {
  const auto memory = TwoRegions();
  const std::vector<uint8_t> bytes(kPage + 2, 1);
  ASSERT_OK(memory->Write(0, bytes));
  EXPECT_THAT(Writes(*memory, 0), ElementsAre(0)) << "never on yet";
  memory->SetWriteTracking(true);
  ASSERT_OK(memory->Write(kPage - 1, bytes));  // into the third page
  EXPECT_THAT(Writes(*memory, 0), ElementsAre(3));
  EXPECT_THAT(Writes(*memory, 0), ElementsAre(0)) << "taken";
  EXPECT_THAT(Writes(*memory, 1), ElementsAre(1));
  EXPECT_FALSE(memory->Write(8 * kPage, bytes).ok());
  EXPECT_THAT(Writes(*memory, 2), ElementsAre(0)) << "nothing was written";
  memory->MarkDirty(5, ~uint64_t{0});
  EXPECT_THAT(Writes(*memory, 2), ElementsAre(1));
  memory->SetWriteTracking(true);
  EXPECT_THAT(Writes(*memory, 0), ElementsAre(0)) << "anew";
  memory->SetWriteTracking(false);
  ASSERT_OK(memory->Write(0, bytes));
  EXPECT_THAT(Writes(*memory, 0), ElementsAre(0));
}

TEST(GuestMemory, PagesGivenBackAreWritten) {
  const auto memory = TwoRegions();
  memory->SetWriteTracking(true);
  ASSERT_OK(memory->Discard(kPage, kPage));
  EXPECT_THAT(Writes(*memory, 0), ElementsAre(2));
  ASSERT_OK(memory->Clear());
  EXPECT_THAT(Writes(*memory, 0), ElementsAre(3));
  EXPECT_THAT(Writes(*memory, 2), ElementsAre(1));
}

// Pages that a pool has: made, zeroed, and zeroed again.
TEST(GuestMemoryHugePages, AreLikeOthers) {
  constexpr uint64_t kHuge = 2 << 20;
  auto made = GuestMemory::Create({{0, kHuge}, {4 * kHuge, kHuge}}, MemoryBacking::kHugePages);
  if (absl::IsResourceExhausted(made.status()))
    GTEST_SKIP() << "SKIPPED: this host has no two free 2 MiB pages (/proc/sys/vm/nr_hugepages)";
  ASSERT_OK(made);
  GuestMemory& memory = **made;
  EXPECT_EQ(memory.backing(), MemoryBacking::kHugePages);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.regions()[1].host) % kHuge, 0u);
  const std::vector<uint8_t> ones(8192, 1);
  std::vector<uint8_t> read(8192);
  ASSERT_OK(memory.Write(4 * kHuge, ones));
  ASSERT_OK(memory.Read(4 * kHuge, read));
  EXPECT_EQ(read, ones);
  ASSERT_OK(memory.Discard(4 * kHuge, 4096));
  ASSERT_OK(memory.Read(4 * kHuge, read));
  EXPECT_EQ(read[0], 0);
  EXPECT_EQ(read[4096], 1);
  ASSERT_OK(memory.Clear());
  ASSERT_OK(memory.Read(4 * kHuge, read));
  EXPECT_EQ(read, std::vector<uint8_t>(8192));
}

TEST(GuestMemoryHugePages, MoreThanThereAreIsRefused) {
  EXPECT_THAT(GuestMemory::Create({{0, uint64_t{1} << 45}}, MemoryBacking::kHugePages),
              StatusIs(StatusCode::kResourceExhausted));
  EXPECT_THAT(GuestMemory::Create({{0, 3 << 20}}, MemoryBacking::kHugePages),
              StatusIs(StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace drover
