#include "agent/service/utf8.h"

#include <gtest/gtest.h>

namespace drover {
namespace {

TEST(CleanUtf8Test, KeepsValidText) {
  EXPECT_EQ(CleanUtf8("", 10), "");
  EXPECT_EQ(CleanUtf8("pl\xc3\xa4in \xe2\x82\xac \xf0\x9f\x98\x80", 100),
            "pl\xc3\xa4in \xe2\x82\xac \xf0\x9f\x98\x80");
}

TEST(CleanUtf8Test, ReplacesEachBadByte) {
  EXPECT_EQ(CleanUtf8("a\xff\x80z", 100), "a??z");
  EXPECT_EQ(CleanUtf8("\xc3", 100), "?");
  EXPECT_EQ(CleanUtf8("\xc0\xaf", 100), "??");            // overlong
  EXPECT_EQ(CleanUtf8("\xed\xa0\x80", 100), "???");       // surrogate
  EXPECT_EQ(CleanUtf8("\xf4\x90\x80\x80", 100), "????");  // beyond U+10FFFF
}

TEST(CleanUtf8Test, CutsBetweenCharacters) {
  EXPECT_EQ(CleanUtf8("abcdef", 6), "abcdef");
  EXPECT_EQ(CleanUtf8("abcdefg", 6), "abc...");
  EXPECT_EQ(CleanUtf8("ab\xe2\x82\xac"
                      "def",
                      6),
            "ab...");
  EXPECT_EQ(CleanUtf8("abcd", 3), "...");
}

}  // namespace
}  // namespace drover
