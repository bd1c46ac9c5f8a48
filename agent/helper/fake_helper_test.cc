#include "agent/helper/fake_helper.h"

#include <poll.h>

#include <filesystem>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

bool Ended(const LaunchedWorker& worker) {
  struct pollfd entry = {.fd = worker.pidfd.get(), .events = POLLIN, .revents = 0};
  return poll(&entry, 1, 0) == 1;
}

class FakeHelperTest : public ::testing::Test {
 protected:
  FakeHelperTest() : helper_(::testing::TempDir() + "/fake-helper") {}
  FakeHelper helper_;
};

TEST_F(FakeHelperTest, LivesAndDiesLikeAWorker) {
  ASSERT_OK_AND_ASSIGN(const LaunchedWorker worker, helper_.Launch({.instance_id = "a"}));
  EXPECT_FALSE(Ended(worker));
  EXPECT_OK(helper_.Adopt("a"));
  EXPECT_EQ(ReasonOf(helper_.Reap("a").status()), "WORKER_ALIVE");
  helper_.EndWorker("a", "words");
  EXPECT_TRUE(Ended(worker));
  EXPECT_EQ(ReasonOf(helper_.Adopt("a").status()), "WORKER_GONE");
  ASSERT_OK_AND_ASSIGN(const GoneWorker gone, helper_.Reap("a"));
  EXPECT_EQ(gone.last_words, "words");
  EXPECT_EQ(ReasonOf(helper_.Adopt("a").status()), "NO_SUCH_INSTANCE");
  EXPECT_THAT(helper_.calls(),
              ElementsAre("Launch a", "Adopt a", "Reap a", "Adopt a", "Reap a", "Adopt a"));
  EXPECT_FALSE(std::filesystem::exists(helper_.DirectoryOf("a")));
}

TEST_F(FakeHelperTest, AFailedLaunchLeavesNothing) {
  helper_.SetOnLaunch([](const WorkerLaunchOptions&, const std::string& directory) {
    EXPECT_TRUE(std::filesystem::exists(directory));
    return absl::AbortedError("no");
  });
  EXPECT_THAT(helper_.Launch({.instance_id = "a"}), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(helper_.instances(), IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(helper_.DirectoryOf("a")));
}

TEST_F(FakeHelperTest, Gone) {
  helper_.SetGone(true);
  EXPECT_EQ(ReasonOf(helper_.Probe().status()), "HELPER_GONE");
}

}  // namespace
}  // namespace drover
