#include "vmm/base/log.h"

#include "gtest/gtest.h"

namespace drover {
namespace {

TEST(FormatLogLine, IsLogfmt) {
  EXPECT_EQ(FormatLogLine(1700000000123456, LogLevel::kInfo, "agent", "vm started",
                          {{"vm", "web-1"}, {"pid", 42}}),
            "time=2023-11-14T22:13:20.123456Z level=info component=agent msg=\"vm started\" "
            "vm=web-1 pid=42");
}

TEST(FormatLogLine, HostileTextStaysOnItsLine) {
  EXPECT_EQ(FormatLogLine(0, LogLevel::kError, "w", "a\nb", {{"k", "x\" level=info\n"}, {"e", ""}}),
            "time=1970-01-01T00:00:00.000000Z level=error component=w msg=\"a\\nb\" "
            "k=\"x\\\" level=info\\n\" e=\"\"");
}

TEST(ParseLogLevel, KnowsItsWords) {
  LogLevel level;
  EXPECT_TRUE(ParseLogLevel("warning", &level));
  EXPECT_EQ(level, LogLevel::kWarning);
  EXPECT_FALSE(ParseLogLevel("loud", &level));
}

}  // namespace
}  // namespace drover
