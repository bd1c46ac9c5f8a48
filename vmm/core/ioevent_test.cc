#include "vmm/core/ioevent.h"

#include <gtest/gtest.h>

namespace drover {
namespace {

constexpr IoAddress kHere = {IoAddress::Space::kMmio, 0x1000};
constexpr IoAddress kPort = {IoAddress::Space::kPort, 0x1000};

TEST(Ioevent, Collisions) {
  const Datamatch any, two = {.width = 2}, four = {.width = 4}, seven = {.width = 4, .value = 7},
                       eight = {.width = 4, .value = 8};
  const struct {
    Datamatch a, b;
    bool collide;
  } cases[] = {{any, any, true},    {any, two, true},     {any, seven, true},
               {two, two, true},    {two, four, false},   {two, seven, false},
               {four, seven, true}, {seven, seven, true}, {seven, eight, false}};
  for (const auto& [a, b, collide] : cases) {
    EXPECT_EQ(IoeventsCollide(kHere, a, kHere, b), collide);
    EXPECT_EQ(IoeventsCollide(kHere, b, kHere, a), collide);
    EXPECT_FALSE(IoeventsCollide(kHere, a, kPort, b)) << "another space";
  }
}

TEST(Ioevent, Matches) {
  EXPECT_TRUE(IoeventMatches({}, 3, 99));
  EXPECT_TRUE(IoeventMatches({.width = 2}, 2, 99));
  EXPECT_FALSE(IoeventMatches({.width = 2}, 4, 99));
  EXPECT_TRUE(IoeventMatches({.width = 2, .value = 99}, 2, 99));
  EXPECT_FALSE(IoeventMatches({.width = 2, .value = 98}, 2, 99));
}

TEST(Ioevent, WidestValueFits) {
  const Fd event = MakeEventFd().value();
  EXPECT_TRUE(CheckIoevent(event, kHere, {.width = 8, .value = ~uint64_t{0}}).ok());
  EXPECT_TRUE(CheckIoevent(event, kHere, {.width = 1, .value = 0xff}).ok());
}

}  // namespace
}  // namespace drover
