#include "agent/jail/uid_pool.h"

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

TEST(UidRangeTest, Parses) {
  EXPECT_THAT(ParseUidRange("1000-2000"), IsOkAndHolds(UidRange{1000, 2000}));
  EXPECT_THAT(ParseUidRange("7-7"), IsOkAndHolds(UidRange{7, 7}));
}

TEST(UidRangeTest, RefusesWhatIsNoRange) {
  for (const char* text :
       {"", "5", "0-5", "9-8", "a-b", "1-2-3", "-1-5", "1-4294967295", "1-4294967296"})
    EXPECT_THAT(ParseUidRange(text), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
}

TEST(UidPoolTest, GivesEachOnceUntilAllAreTaken) {
  UidPool pool({10, 12});
  pool.Reserve(11);
  EXPECT_THAT(pool.Take(), IsOkAndHolds(10u));
  EXPECT_THAT(pool.Take(), IsOkAndHolds(12u));
  const auto none = pool.Take();
  EXPECT_THAT(none, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(ReasonOf(none.status()), "WORKER_UIDS_EXHAUSTED");
  pool.Release(11);
  EXPECT_THAT(pool.Take(), IsOkAndHolds(11u));
}

TEST(UidPoolTest, ReusesTheLongestUnused) {
  UidPool pool({10, 12});
  ASSERT_THAT(pool.Take(), IsOkAndHolds(10u));
  pool.Release(10);
  EXPECT_THAT(pool.Take(), IsOkAndHolds(11u));
  EXPECT_THAT(pool.Take(), IsOkAndHolds(12u));
  EXPECT_THAT(pool.Take(), IsOkAndHolds(10u));
}

TEST(UidPoolTest, TheWholeOfTheLargestRangeWrapsAround) {
  UidPool pool({4294967293u, 4294967294u});
  EXPECT_THAT(pool.Take(), IsOkAndHolds(4294967293u));
  EXPECT_THAT(pool.Take(), IsOkAndHolds(4294967294u));
  EXPECT_THAT(pool.Take(), StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace drover
