#include "vmm/core/memory_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using absl::StatusCode;
using testing::ElementsAre;

constexpr uint64_t kGiB = 1 << 30;
constexpr uint64_t kLimit = uint64_t{1} << 46;

TEST(RamRanges, BelowTheGap) {
  EXPECT_THAT(layout::RamRanges(2 << 20, kLimit),
              IsOkAndHolds(ElementsAre(GuestRange{0, 2 << 20})));
  EXPECT_THAT(layout::RamRanges(3 * kGiB, kLimit),
              IsOkAndHolds(ElementsAre(GuestRange{0, 3 * kGiB})));
}

TEST(RamRanges, AroundTheGap) {
  EXPECT_THAT(layout::RamRanges(3 * kGiB + 4096, kLimit),
              IsOkAndHolds(ElementsAre(GuestRange{0, 3 * kGiB}, GuestRange{4 * kGiB, 4096})));
}

TEST(RamRanges, UpToTheLastAddress) {
  EXPECT_THAT(layout::RamRanges(kLimit - kGiB, kLimit), IsOk());
  EXPECT_THAT(layout::RamRanges(kLimit - kGiB + 4096, kLimit),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(layout::RamRanges(~uint64_t{4095}, kLimit), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(layout::RamRanges(4 * kGiB, kGiB), StatusIs(StatusCode::kInvalidArgument));
}

TEST(RamRanges, RefusesOddSizes) {
  for (const uint64_t bytes : {0ull, 4096ull, (2ull << 20) - 4096, (2ull << 20) + 1})
    EXPECT_THAT(layout::RamRanges(bytes, kLimit), StatusIs(StatusCode::kInvalidArgument));
}

TEST(Layout, FixedPiecesDoNotOverlapRam) {
  for (const uint64_t address : {layout::kIoApicAddress, layout::kLocalApicAddress,
                                 layout::kIdentityMapAddress, layout::kTssAddress}) {
    EXPECT_GE(address, layout::kMmioGapStart);
    EXPECT_LT(address, layout::kMmioGapEnd);
  }
  EXPECT_GE(layout::kTssAddress, layout::kIdentityMapAddress + 4096);
}

}  // namespace
}  // namespace drover
