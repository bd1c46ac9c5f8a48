#include "e2e/bench/figure.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace drover {
namespace {

using ::testing::Optional;

TEST(Quantile, IsASampleAtLeastAsLargeAsThatShare) {
  EXPECT_EQ(Quantile({3, 1, 2}, 0.5), 2);
  EXPECT_EQ(Quantile({3, 1, 2}, 0.99), 3);
  EXPECT_EQ(Quantile({7}, 0), 7);
}

TEST(Figure, AGoalMayBeAValueOrARatio) {
  Figure figure{.name = "x", .value = 4, .unit = "ms", .baseline = 2, .goal = 3};
  EXPECT_THAT(figure.ratio(), Optional(2.0));
  EXPECT_THAT(figure.met(), Optional(false));
  figure.goal_is_ratio = true;
  EXPECT_THAT(figure.met(), Optional(true));
  figure.baseline.reset();
  EXPECT_EQ(figure.met(), std::nullopt);
  figure.goal.reset();
  EXPECT_EQ(figure.met(), std::nullopt);
}

}  // namespace
}  // namespace drover
