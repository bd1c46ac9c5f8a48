#include "agent/daemon/state_dir.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr AgentUser kUser = {.uid = 65533, .gid = 65533};

class StateDirTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: it gives directories to other users";
    char path[] = "/tmp/drover-state-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    ASSERT_EQ(chmod(path, 0755), 0);
    root_ = path;
  }
  void TearDown() override {
    if (!root_.empty()) std::filesystem::remove_all(root_);
  }
  static struct stat Stat(const std::string& path) {
    struct stat found = {};
    EXPECT_EQ(stat(path.c_str(), &found), 0) << path;
    return found;
  }
  // What `body` returns in a child of this process.
  template <typename Body>
  static int InChild(Body body) {
    const pid_t pid = fork();
    if (pid == 0) _exit(body());
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string root_;
};

TEST_F(StateDirTest, LetsTheAgentMakeFilesButNotReplaceRoots) {
  const std::string dir = root_ + "/a/b";
  ASSERT_OK(PrepareStateDir(dir, kUser));
  EXPECT_EQ(Stat(dir).st_mode & 07777, 01770u);
  EXPECT_EQ(Stat(dir).st_uid, 0u);
  EXPECT_EQ(Stat(dir).st_gid, kUser.gid);
  EXPECT_TRUE(std::filesystem::is_directory(dir + "/images"));
  ASSERT_OK(PrepareStateDir(dir, kUser));  // again, as at every start
  EXPECT_EQ(InChild([&] {
              if (!DropPrivileges(kUser).ok()) return 1;
              if (!CheckStateDirUsable(dir).ok()) return 2;
              if (!ReplaceFile(dir + "/registry.db", "x", 0600).ok()) return 3;
              if (rename((dir + "/images").c_str(), (dir + "/mine").c_str()) == 0) return 4;
              return 0;
            }),
            0);
}

TEST_F(StateDirTest, SaysThatADirectoryAboveIsClosed) {
  ASSERT_OK(PrepareStateDir(root_ + "/closed/state", kUser));
  ASSERT_EQ(chmod((root_ + "/closed").c_str(), 0700), 0);
  EXPECT_EQ(InChild([&] {
              if (!DropPrivileges(kUser).ok()) return 1;
              const absl::Status status = CheckStateDirUsable(root_ + "/closed/state");
              return status.code() == absl::StatusCode::kPermissionDenied ? 0 : 2;
            }),
            0);
}

TEST_F(StateDirTest, RefusesALink) {
  ASSERT_EQ(symlink("/tmp", (root_ + "/link").c_str()), 0);
  EXPECT_FALSE(PrepareStateDir(root_ + "/link", kUser).ok());
}

TEST_F(StateDirTest, GivesTheAgentANewSocketDirectoryOnly) {
  ASSERT_OK(PrepareSocketDir(root_ + "/run/agent.sock", kUser));
  EXPECT_EQ(Stat(root_ + "/run").st_uid, kUser.uid);
  ASSERT_OK(PrepareSocketDir(root_ + "/agent.sock", kUser));
  EXPECT_EQ(Stat(root_).st_uid, 0u);
}

TEST_F(StateDirTest, LocksOutASecondAgentAndNamesTheFirst) {
  ASSERT_OK_AND_ASSIGN(Fd lock, LockStateDir(root_, std::chrono::milliseconds(0)));
  EXPECT_THAT(LockStateDir(root_, std::chrono::milliseconds(0)),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("process id " + std::to_string(getpid())),
                             HasSubstr("--state-dir"))));
  EXPECT_EQ(ReasonOf(LockStateDir(root_, std::chrono::milliseconds(0)).status()),
            "STATE_DIR_IN_USE");
  lock.Reset();
  EXPECT_OK(LockStateDir(root_, std::chrono::milliseconds(0)));
}

TEST_F(StateDirTest, LocksOnAFullDisk) {
  const int result = InChild([&] {
    if (unshare(CLONE_NEWNS) != 0 || mount("", "/", "", MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", root_.c_str(), "tmpfs", 0, "size=64k") != 0)
      return 77;
    { std::ofstream(root_ + "/agent.lock"); }
    std::ofstream filler(root_ + "/filler");
    filler << std::string(1 << 20, 'x') << std::flush;
    if (filler.good()) return 1;
    return LockStateDir(root_, std::chrono::milliseconds(0)).ok() ? 0 : 2;
  });
  if (result == 77) GTEST_SKIP() << "needs root to mount a small file system";
  EXPECT_EQ(result, 0);
}

TEST_F(StateDirTest, WaitsForAHelperThatIsEnding) {
  ASSERT_OK_AND_ASSIGN(Fd lock, LockStateDir(root_, std::chrono::milliseconds(0)));
  const pid_t helper = fork();  // inherits the lock, as the helper does
  if (helper == 0) {
    usleep(300'000);
    _exit(0);
  }
  lock.Reset();
  EXPECT_OK(LockStateDir(root_, std::chrono::seconds(60)));
  waitpid(helper, nullptr, 0);
}

TEST_F(StateDirTest, DropsEverything) {
  EXPECT_EQ(InChild([&] {
              if (!RaiseFileLimit().ok() || !DropPrivileges(kUser).ok()) return 1;
              std::ifstream status("/proc/self/status");
              int found = 0;
              for (std::string line; std::getline(status, line);) {
                if (line.starts_with("Cap") && !line.ends_with("\t0000000000000000") &&
                    !line.starts_with("CapBnd"))
                  return 2;
                found += line == "Uid:\t65533\t65533\t65533\t65533";
                found += line == "Gid:\t65533\t65533\t65533\t65533";
                found += line == "NoNewPrivs:\t1";
                if (line.starts_with("Groups:") && line.find_first_of("0123456789") != line.npos)
                  return 3;
              }
              return found == 3 ? 0 : 4;
            }),
            0);
}

}  // namespace
}  // namespace drover
