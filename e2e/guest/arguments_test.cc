#include "e2e/guest/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdarg>
#include <string>

#include "e2e/guest/console.h"

namespace guest {
namespace {

std::string* printed = new std::string;

}  // namespace

// The console of the host's test: formats with %s only are enough for arguments.cc.
void Print(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char text[256];
  vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  *printed = text;
}

namespace {

TEST(ParseNumber, UnderstandsDecimalHexadecimalAndUnits) {
  uint64_t n = 0;
  EXPECT_TRUE(ParseNumber("17", &n));
  EXPECT_EQ(n, 17u);
  EXPECT_TRUE(ParseNumber("0x1f", &n));
  EXPECT_EQ(n, 31u);
  EXPECT_TRUE(ParseNumber("64M", &n));
  EXPECT_EQ(n, 64u << 20);
  EXPECT_TRUE(ParseNumber("8G", &n));
  EXPECT_EQ(n, uint64_t{8} << 30);
}

TEST(ParseNumber, RefusesWhatIsNoNumber) {
  uint64_t n = 5;
  for (const char* text :
       {"", "x", "0x", "1k", "12MM", "1 ", "-1", "99999999999999999999", "99999999999G"}) {
    EXPECT_FALSE(ParseNumber(text, &n)) << text;
  }
  EXPECT_EQ(n, 5u);
}

TEST(Arguments, TakesWordsAndLeavesTheRest) {
  char line[] = "  start  rest of it";
  Arguments arguments(line);
  EXPECT_FALSE(arguments.Take("star"));
  EXPECT_TRUE(arguments.Take("start"));
  EXPECT_STREQ(arguments.Rest(), "rest of it");
  EXPECT_STREQ(arguments.Next(), "rest");
  EXPECT_STREQ(arguments.Next(), "of");
  EXPECT_STREQ(arguments.Next(), "it");
  EXPECT_STREQ(arguments.Next(), "");
}

TEST(Arguments, ReadsOptionsAndKeepsDefaults) {
  char line[] = "size=1M base=0x2000";
  Arguments arguments(line);
  Option o[] = {{"base", 1}, {"size", 2}, {"rate", 3}};
  ASSERT_TRUE(arguments.Read("touch", o));
  EXPECT_EQ(o[0].value, 0x2000u);
  EXPECT_EQ(o[1].value, 1u << 20);
  EXPECT_EQ(o[2].value, 3u);
}

TEST(Arguments, NamesWhatIsWrong) {
  Option o[] = {{"size", 2}};
  char no_number[] = "size=lots";
  EXPECT_FALSE(Arguments(no_number).Read("touch", o));
  EXPECT_EQ(*printed, "error touch size is not a number: lots\n");
  char unknown[] = "sizes=1";
  EXPECT_FALSE(Arguments(unknown).Read("touch", o));
  EXPECT_EQ(*printed, "error touch unknown argument: sizes=1\n");
}

}  // namespace
}  // namespace guest
