// The worker's jail, seen from outside through /proc, while its guest runs.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "e2e/harness/vm_fixture.h"
#include "vmm/base/fd.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class JailTest : public VmFixture {
 protected:
  void SetUp() override {
    VmFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    CreateGuest("jailed", "", /*vcpus=*/2);
    pid_ = StartVm("jailed").worker().pid();
    ASSERT_GT(pid_, 0);
  }

  std::string Proc(const std::string& name) const {
    return absl::StrCat("/proc/", pid_, "/", name);
  }

  // The fields of /proc/PID/status, or of one of its threads.
  std::map<std::string, std::string> Status(const std::string& file) const {
    std::map<std::string, std::string> fields;
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
      const size_t colon = line.find(':');
      if (colon == std::string::npos) continue;
      const size_t value = line.find_first_not_of(" \t", colon + 1);
      fields[line.substr(0, colon)] = value == std::string::npos ? "" : line.substr(value);
    }
    return fields;
  }

  static std::string Link(const std::string& path) {
    std::error_code error;
    return fs::read_symlink(path, error).string();
  }

  int pid_ = 0;
};

TEST_F(JailTest, RunsUnderAUidOfItsOwnWithoutAnyPrivilege) {
  const auto status = Status(Proc("status"));
  const v1::Vm vm = Get("jailed");
  int64_t uid = 0;
  ASSERT_TRUE(absl::SimpleAtoi(status.at("Uid").substr(0, status.at("Uid").find('\t')), &uid));
  EXPECT_EQ(uid, vm.worker().uid());
  EXPECT_GT(uid, 65535);
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
    EXPECT_EQ(status.at(set), "0000000000000000") << set;
  EXPECT_EQ(status.at("NoNewPrivs"), "1");
}

TEST_F(JailTest, EveryThreadIsUnderAFilter) {
  int threads = 0;
  for (const auto& task : fs::directory_iterator(Proc("task"))) {
    ++threads;
    EXPECT_EQ(Status(task.path() / "status").at("Seccomp"), "2") << task.path();
  }
  EXPECT_GE(threads, 3);  // two vCPUs and the loop
}

TEST_F(JailTest, HasNamespacesOfItsOwn) {
  for (const char* name : {"mnt", "pid", "net", "ipc", "uts", "user", "cgroup"})
    EXPECT_NE(Link(Proc(absl::StrCat("ns/", name))), Link(absl::StrCat("/proc/self/ns/", name)))
        << name;
}

TEST_F(JailTest, ItsRootIsEmptyAndReadOnly) {
  EXPECT_TRUE(fs::is_empty(Proc("root/")));
  const std::string mounts = ReadSmallFile(Proc("mounts").c_str()).value_or("?");
  EXPECT_EQ(std::count(mounts.begin(), mounts.end(), '\n'), 1) << mounts;
  EXPECT_THAT(mounts, HasSubstr(" ro,"));
}

TEST_F(JailTest, HasNoNetworkButAnIdleLoopback) {
  const std::string devices = ReadSmallFile(Proc("net/dev").c_str()).value_or("");
  EXPECT_EQ(std::count(devices.begin(), devices.end(), ':'), 1) << devices;
  EXPECT_THAT(devices, HasSubstr("lo:"));
}

TEST_F(JailTest, HoldsOnlyTheDescriptorsItNeeds) {
  std::set<std::string> unexpected;
  for (const auto& entry : fs::directory_iterator(Proc("fd"))) {
    const std::string target = Link(entry.path());
    const bool known = absl::StartsWith(target, "socket:") ||
                       absl::StartsWith(target, "anon_inode:") ||
                       absl::StrContains(target, "memfd:guest-memory") ||
                       absl::EndsWith(target, "/kvm") || absl::EndsWith(target, "/userfaultfd") ||
                       absl::EndsWith(target, "/null") || absl::StrContains(target, "/workers/") ||
                       absl::EndsWith(target, "/guest") || absl::StartsWith(target, "pipe:");
    if (!known) unexpected.insert(target);
  }
  EXPECT_THAT(unexpected, IsEmpty());
}

TEST_F(JailTest, HasLimitsAndACgroupOfItsOwn) {
  const std::string limits = ReadSmallFile(Proc("limits").c_str()).value_or("");
  EXPECT_THAT(limits, HasSubstr("Max core file size        0"));
  EXPECT_THAT(limits, HasSubstr("Max file size             1048576"));
  EXPECT_THAT(limits, HasSubstr("Max open files            1024"));
  const std::string groups = ReadSmallFile(Proc("cgroup").c_str()).value_or("");
  EXPECT_THAT(groups, HasSubstr(home_.cgroup_parent()));
  const std::string own = Get("jailed").worker().cgroup();
  EXPECT_THAT(groups, HasSubstr(own));
  bool limited = false;
  for (const std::string& path : home_.Cgroups())
    for (const char* file : {"/memory.max", "/memory.limit_in_bytes"})
      if (absl::EndsWith(path, fs::path(own).filename().string()))
        if (const auto text = ReadSmallFile((path + file).c_str()); text.ok()) {
          int64_t bytes = 0;
          EXPECT_TRUE(absl::SimpleAtoi(*text, &bytes)) << path << ": " << *text;
          EXPECT_GT(bytes, int64_t{64} << 20);
          EXPECT_LT(bytes, int64_t{512} << 20);
          limited = true;
        }
  EXPECT_TRUE(limited);
}

TEST_F(JailTest, TheAgentItselfHoldsNoPrivilege) {
  const auto status = Status(absl::StrCat("/proc/", agent_->pid(), "/status"));
  EXPECT_EQ(status.at("CapEff"), "0000000000000000");
  EXPECT_EQ(status.at("CapPrm"), "0000000000000000");
  EXPECT_EQ(status.at("NoNewPrivs"), "1");
  EXPECT_NE(status.at("Uid").substr(0, 2), "0\t");
  for (const auto& entry : fs::directory_iterator(absl::StrCat("/proc/", agent_->pid(), "/fd")))
    EXPECT_FALSE(absl::EndsWith(Link(entry.path()), "/dev/kvm"));
}

TEST_F(JailTest, AWorkerThatIsKilledIsReportedAndCanBeStartedAgain) {
  ASSERT_EQ(kill(pid_, SIGKILL), 0);
  const v1::Vm failed = WaitFor("jailed", v1::VM_STATE_FAILED);
  EXPECT_EQ(failed.state_reason(), "WORKER_DIED");
  EXPECT_EQ(StartVm("jailed").state(), v1::VM_STATE_RUNNING);
}

}  // namespace
}  // namespace drover
