#include "agent/jail/process_identity.h"

#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

std::string StatOf(const std::string& name) {
  return absl::StrCat("7 (", name,
                      ") S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 11 22\n");
}

TEST(ProcessIdentityTest, StartTicksWhateverTheName) {
  for (const char* name : {"sh", "", ") S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20", "((",
                           "a) (b", "\n", " "})
    EXPECT_THAT(ParseStartTicks(StatOf(name)), IsOkAndHolds(987654u)) << name;
}

TEST(ProcessIdentityTest, RefusesWhatIsNoStat) {
  for (const char* text :
       {"", "7", "7 (sh", "7 (sh) S 1 2", "7 (sh) S 1 7 7 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 x 11 22"})
    EXPECT_THAT(ParseStartTicks(text), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
}

TEST(ProcessIdentityTest, OpensTheSameProcessOnly) {
  ASSERT_OK_AND_ASSIGN(const uint64_t ticks, ReadStartTicks(getpid()));
  ASSERT_OK_AND_ASSIGN(const Fd self, OpenProcess(getpid(), ticks));
  EXPECT_FALSE(HasEnded(self.get()));
  EXPECT_THAT(OpenProcess(getpid(), ticks + 1), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(OpenProcess(0, ticks), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(OpenProcess(-1, ticks), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(ProcessIdentityTest, AZombieHasEnded) {
  const pid_t pid = fork();
  if (pid == 0) {
    pause();
    _exit(0);
  }
  ASSERT_OK_AND_ASSIGN(const uint64_t ticks, ReadStartTicks(pid));
  ASSERT_OK_AND_ASSIGN(const Fd pidfd, OpenProcess(pid, ticks));
  ASSERT_OK(KillProcess(pidfd.get()));
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, pid, &info, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(HasEnded(pidfd.get()));
  EXPECT_THAT(OpenProcess(pid, ticks), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_EQ(waitpid(pid, nullptr, 0), pid);
  EXPECT_THAT(ReadStartTicks(pid), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(KillProcess(pidfd.get()));
}

TEST(ProcessIdentityTest, BootId) {
  ASSERT_OK_AND_ASSIGN(const std::string id, ReadBootId());
  EXPECT_EQ(id.size(), 36u);
}

}  // namespace
}  // namespace drover
