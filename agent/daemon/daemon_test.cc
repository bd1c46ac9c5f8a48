// The real agent and helper, with a worker that only waits.

#include "agent/daemon/daemon.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "agent/daemon/state_dir.h"
#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr uid_t kNobody = 65534;

std::string Absolute(const char* runfile) { return std::filesystem::absolute(runfile).string(); }

class DaemonTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: the agent starts as root";
    char path[] = "/tmp/drover-agent-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    ASSERT_EQ(chmod(path, 0755), 0);
    root_ = path;
    program_ = Absolute("agent/daemon/drover-agent");
  }
  void TearDown() override {
    for (const pid_t pid : running_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    if (root_.empty()) return;
    // The helper of a killed agent ends by itself; it must not miss its directory before that.
    if (std::filesystem::exists(root_ + "/state")) {
      EXPECT_OK(LockAfterwards());
    }
    std::filesystem::remove_all(root_);
  }

  // Starts an agent whose log is `name`.log, as `uid`.
  pid_t Start(const std::string& name, uid_t uid = 0) {
    const std::vector<std::string> words = {program_,
                                            "--state-dir=" + root_ + "/state",
                                            "--listen=" + root_ + "/run/" + name + ".sock",
                                            "--metrics-listen=127.0.0.1:0",
                                            "--worker=" + Absolute("agent/jail/test_worker"),
                                            "--helper=" + Absolute("agent/helper/drover-helper")};
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    const Fd log(open(LogPath(name).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    const pid_t pid = fork();
    if (pid == 0) {
      dup2(log.get(), STDERR_FILENO);
      if (uid != 0 && setuid(uid) != 0) _exit(126);
      execv(argv[0], argv.data());
      _exit(127);
    }
    running_.insert(pid);
    return pid;
  }
  int Wait(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    running_.erase(pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  std::string LogPath(const std::string& name) const { return root_ + "/" + name + ".log"; }
  std::string LogOf(const std::string& name) const {
    std::stringstream text;
    text << std::ifstream(LogPath(name)).rdbuf();
    return text.str();
  }
  bool AwaitLog(const std::string& name, const std::string& text) const {
    for (int i = 0; i < 600; ++i, usleep(100'000))
      if (LogOf(name).find(text) != std::string::npos) return true;
    ADD_FAILURE() << "\"" << text << "\" is not in:\n" << LogOf(name);
    return false;
  }
  pid_t HelperPid(const std::string& name) const {
    std::smatch match;
    const std::string log = LogOf(name);
    return std::regex_search(log, match, std::regex("helper_pid=([0-9]+)")) ? std::stoi(match[1])
                                                                            : -1;
  }
  bool Serving(const std::string& name) const {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    grpc::health::v1::HealthCheckResponse response;
    const auto channel = grpc::CreateChannel("unix:" + root_ + "/run/" + name + ".sock",
                                             grpc::InsecureChannelCredentials());
    return grpc::health::v1::Health::NewStub(channel)->Check(&context, {}, &response).ok() &&
           response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
  }
  // Waits until no helper holds the state directory.
  absl::StatusOr<Fd> LockAfterwards() const {
    return LockStateDir(root_ + "/state", std::chrono::seconds(30));
  }

  std::string root_;
  std::string program_;
  std::set<pid_t> running_;
};

TEST_F(DaemonTest, ServesWithoutPrivilegeAndEndsOnASignal) {
  const pid_t agent = Start("a");
  ASSERT_TRUE(AwaitLog("a", "msg=ready"));
  EXPECT_TRUE(Serving("a"));
  std::stringstream status;
  status << std::ifstream("/proc/" + std::to_string(agent) + "/status").rdbuf();
  EXPECT_THAT(status.str(), Not(HasSubstr("Uid:\t0\t")));
  EXPECT_THAT(status.str(), HasSubstr("CapEff:\t0000000000000000"));
  EXPECT_THAT(status.str(), HasSubstr("CapPrm:\t0000000000000000"));
  EXPECT_THAT(status.str(), HasSubstr("NoNewPrivs:\t1"));
  kill(agent, SIGTERM);
  EXPECT_EQ(Wait(agent), 0);
  EXPECT_FALSE(std::filesystem::exists(root_ + "/run/a.sock"));
  EXPECT_OK(LockAfterwards());
}

TEST_F(DaemonTest, RefusesASecondAgentAndNamesTheFirst) {
  const pid_t agent = Start("a");
  ASSERT_TRUE(AwaitLog("a", "msg=ready"));
  EXPECT_EQ(Wait(Start("b")), 1);
  EXPECT_THAT(LogOf("b"), HasSubstr("process id " + std::to_string(agent)));
  EXPECT_THAT(LogOf("b"), HasSubstr("STATE_DIR_IN_USE"));
  EXPECT_TRUE(Serving("a"));
}

TEST_F(DaemonTest, ComesBackAfterBeingKilled) {
  const pid_t agent = Start("a");
  ASSERT_TRUE(AwaitLog("a", "msg=ready"));
  kill(agent, SIGKILL);
  Wait(agent);
  Start("b");
  ASSERT_TRUE(AwaitLog("b", "msg=ready"));
  EXPECT_TRUE(Serving("b"));
}

TEST_F(DaemonTest, EndsWithItsHelper) {
  const pid_t agent = Start("a");
  ASSERT_TRUE(AwaitLog("a", "msg=ready"));
  ASSERT_GT(HelperPid("a"), 1);
  kill(HelperPid("a"), SIGKILL);
  EXPECT_EQ(Wait(agent), 1);
  EXPECT_THAT(LogOf("a"), HasSubstr("reason=HELPER_GONE"));
}

TEST_F(DaemonTest, SaysThatItNeedsRoot) {
  // The build's directories may be closed to others.
  std::filesystem::copy_file(program_, root_ + "/drover-agent");
  program_ = root_ + "/drover-agent";
  EXPECT_EQ(Wait(Start("a", kNobody)), 1);
  EXPECT_THAT(LogOf("a"), HasSubstr("must be started as root"));
}

TEST_F(DaemonTest, SaysThatTheSocketIsTaken) {
  ASSERT_EQ(mkdir((root_ + "/run").c_str(), 0755), 0);
  std::ofstream(root_ + "/run/a.sock") << "no socket";
  EXPECT_EQ(Wait(Start("a")), 1);
  EXPECT_THAT(LogOf("a"), HasSubstr("is no socket"));
}

TEST_F(DaemonTest, RefusesACorruptRegistry) {
  Start("a");
  ASSERT_TRUE(AwaitLog("a", "msg=ready"));
  kill(*running_.begin(), SIGTERM);
  EXPECT_EQ(Wait(*running_.begin()), 0);
  for (const char* suffix : {"-wal", "-shm"})
    std::filesystem::remove(root_ + "/state/registry.db" + suffix);
  std::ofstream(root_ + "/state/registry.db") << std::string(8192, 'x');
  EXPECT_EQ(Wait(Start("b")), 1);
  EXPECT_THAT(LogOf("b"), HasSubstr("registry.db"));
}

}  // namespace
}  // namespace drover
