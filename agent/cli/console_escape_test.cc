#include "agent/cli/console_escape.h"

#include <gtest/gtest.h>

namespace drover {
namespace {

// What the guest gets of keys typed one by one.
std::string Type(const std::string& keys, bool* left, bool enabled = true) {
  ConsoleEscape escape(enabled);
  std::string out;
  for (const char c : keys) out += escape.Filter({&c, 1});
  *left = escape.left();
  return out;
}

TEST(ConsoleEscapeTest, LeavesByControlBracketAnywhere) {
  bool left;
  EXPECT_EQ(Type("ab\x1d"
                 "cd",
                 &left),
            "ab");
  EXPECT_TRUE(left);
}

TEST(ConsoleEscapeTest, LeavesByTildeDotAtTheBeginningOfALine) {
  bool left;
  EXPECT_EQ(Type("~.", &left), "");
  EXPECT_TRUE(left);
  EXPECT_EQ(Type("ls\r~.x", &left), "ls\r");
  EXPECT_TRUE(left);
}

TEST(ConsoleEscapeTest, PassesTildesThatAreNoEscape) {
  bool left;
  EXPECT_EQ(Type("cd ~.\r", &left), "cd ~.\r");
  EXPECT_FALSE(left);
  EXPECT_EQ(Type("~~.\r", &left), "~.\r");
  EXPECT_FALSE(left);
  EXPECT_EQ(Type("~a", &left), "~a");
  EXPECT_FALSE(left);
}

TEST(ConsoleEscapeTest, PassesEverythingWhereItIsOff) {
  bool left;
  EXPECT_EQ(Type("~.\x1d", &left, false), "~.\x1d");
  EXPECT_FALSE(left);
}

TEST(ConsoleEscapeTest, WorksOnWholeChunksToo) {
  ConsoleEscape escape(true);
  EXPECT_EQ(escape.Filter("ls\r~."), "ls\r");
  EXPECT_TRUE(escape.left());
  EXPECT_EQ(escape.Filter("more"), "");
}

}  // namespace
}  // namespace drover
