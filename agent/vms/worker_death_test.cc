#include "agent/vms/worker_death.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

namespace drover {
namespace {

using ::testing::HasSubstr;

TEST(DescribeDeathTest, TellsAJailViolationFromADeath) {
  EXPECT_EQ(DescribeDeath(ProcessEnd{.signal = SIGSYS}).reason, "JAIL_VIOLATION");
  for (const int signal : {SIGKILL, SIGSEGV, SIGRTMIN})
    EXPECT_EQ(DescribeDeath(ProcessEnd{.signal = signal}).reason, "WORKER_DIED");
  EXPECT_EQ(DescribeDeath(std::nullopt).reason, "WORKER_DIED");
}

TEST(DescribeDeathTest, SaysWhatIsKnown) {
  EXPECT_THAT(DescribeDeath(ProcessEnd{.signal = SIGSEGV}).message, HasSubstr("SIGSEGV"));
  EXPECT_THAT(DescribeDeath(ProcessEnd{.signal = SIGKILL}).message, HasSubstr("out of memory"));
  EXPECT_THAT(DescribeDeath(ProcessEnd{.status = 9}).message, HasSubstr("status 9"));
  EXPECT_THAT(DescribeDeath(std::nullopt).message, HasSubstr("not known"));
}

}  // namespace
}  // namespace drover
