#include "agent/jail/cgroup.h"

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/jail/namespaces.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

constexpr char kRoot[] = "/sys/fs/cgroup";

bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 6000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

// One suite for both versions; what this host has not is skipped.
class CgroupTest : public ::testing::TestWithParam<uint32_t> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "cgroups need root";
    parent_ = absl::StrCat("drover-test-", getpid());
    auto cgroups = OpenCgroups(parent_, kRoot);
    if (!cgroups.ok()) GTEST_SKIP() << cgroups.status();
    if ((*cgroups)->version() != GetParam())
      GTEST_SKIP() << "this host has cgroup v" << (*cgroups)->version();
    cgroups_ = *std::move(cgroups);
  }

  void TearDown() override {
    if (cgroups_ != nullptr) {
      ASSERT_OK_AND_ASSIGN(const std::vector<std::string> names, cgroups_->List());
      for (const std::string& name : names) {
        EXPECT_OK(cgroups_->Kill(name));
        EXPECT_OK(RemoveSoon(name));
      }
    }
    for (const char* hierarchy : {"", "/freezer", "/memory", "/cpu", "/pids"})
      RemoveGroup(absl::StrCat(kRoot, hierarchy, "/", parent_)).IgnoreError();
  }

  absl::Status RemoveSoon(const std::string& name) {
    absl::Status status;
    for (int i = 0; i < 3000; ++i) {
      status = cgroups_->Remove(name);
      if (status.code() != absl::StatusCode::kUnavailable) return status;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return status;
  }

  // A child in the group that runs `body`; it may make system calls only.
  pid_t ChildIn(const std::string& name, void (*body)()) {
    const auto entry = cgroups_->Enter(name);
    EXPECT_OK(entry);
    int pidfd = -1;
    const pid_t pid = CloneChild(0, &pidfd, entry->clone_target.get());
    if (pid == 0) {
      for (const Fd& join : entry->joins)
        if (write(join.get(), "0", 1) != 1) _exit(100);
      body();
      _exit(0);
    }
    close(pidfd);
    return pid;
  }

  static void WaitForever() {
    for (;;) pause();
  }

  static void ForkAndTell() { _exit(syscall(SYS_fork) >= 0 ? 1 : 2); }

  std::string Knob(const char* v1_hierarchy, const std::string& name, const char* knob) {
    const std::string path =
        absl::StrCat(kRoot, GetParam() == 1 ? absl::StrCat("/", v1_hierarchy) : "",
                     cgroups_->PathOf(name), "/", knob);
    const auto text = ReadSmallFile(path.c_str());
    return text.ok() ? std::string(absl::StripAsciiWhitespace(*text)) : text.status().ToString();
  }

  std::string parent_;
  std::unique_ptr<Cgroups> cgroups_;
};

TEST_P(CgroupTest, CreateListRemove) {
  ASSERT_OK(cgroups_->Create("a"));
  ASSERT_OK(cgroups_->Create("b"));
  EXPECT_THAT(cgroups_->Create("a"), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(cgroups_->List(), IsOkAndHolds(::testing::ElementsAre("a", "b")));
  EXPECT_OK(cgroups_->Remove("a"));
  EXPECT_OK(cgroups_->Remove("a"));
  EXPECT_THAT(cgroups_->List(), IsOkAndHolds(::testing::ElementsAre("b")));
  EXPECT_EQ(cgroups_->PathOf("b"), "/" + parent_ + "/b");
}

TEST_P(CgroupTest, Limits) {
  ASSERT_OK(cgroups_->Create("a"));
  ASSERT_OK(cgroups_->SetLimits("a", {.memory_bytes = 256 << 20, .cpu_percent = 250, .tasks = 34}));
  EXPECT_EQ(Knob("pids", "a", "pids.max"), "34");
  if (GetParam() == 1) {
    EXPECT_EQ(Knob("memory", "a", "memory.limit_in_bytes"), "268435456");
    EXPECT_EQ(Knob("cpu", "a", "cpu.cfs_quota_us"), "250000");
    EXPECT_EQ(Knob("cpu", "a", "cpu.cfs_period_us"), "100000");
  } else {
    EXPECT_EQ(Knob("", "a", "memory.max"), "268435456");
    EXPECT_EQ(Knob("", "a", "cpu.max"), "250000 100000");
  }
}

TEST_P(CgroupTest, LimitsChangeBothWays) {
  ASSERT_OK(cgroups_->Create("a"));
  for (const uint64_t mib : {64, 256, 128}) {
    ASSERT_OK(cgroups_->SetLimits("a", {.memory_bytes = mib << 20, .cpu_percent = 100, .tasks = 9}))
        << mib;
    EXPECT_EQ(Knob(GetParam() == 1 ? "memory" : "", "a",
                   GetParam() == 1 ? "memory.limit_in_bytes" : "memory.max"),
              absl::StrCat(mib << 20));
  }
}

TEST_P(CgroupTest, LimitsOfAGuest) {
  const CgroupLimits limits = CgroupLimits::ForGuest(2, 1 << 30);
  EXPECT_EQ(limits.memory_bytes, (1024u + 8 + 64 + 2) << 20);
  EXPECT_EQ(limits.cpu_percent, 250u);
  EXPECT_EQ(limits.tasks, 34u);
}

TEST_P(CgroupTest, KillsAllAndThenTheGroupCanGo) {
  ASSERT_OK(cgroups_->Create("a"));
  const pid_t first = ChildIn("a", WaitForever);
  const pid_t second = ChildIn("a", WaitForever);
  const char* hierarchy = "freezer";
  ASSERT_TRUE(Eventually([&] {
    return Knob(hierarchy, "a", "cgroup.procs") ==
           absl::StrCat(std::min(first, second), "\n", std::max(first, second));
  }));
  EXPECT_THAT(cgroups_->Remove("a"), StatusIs(absl::StatusCode::kUnavailable));
  ASSERT_OK(cgroups_->Kill("a"));
  for (const pid_t pid : {first, second}) {
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFSIGNALED(status));
  }
  EXPECT_OK(RemoveSoon("a"));
  EXPECT_OK(cgroups_->Kill("a"));
}

TEST_P(CgroupTest, TasksAreLimited) {
  ASSERT_OK(cgroups_->Create("a"));
  ASSERT_OK(cgroups_->SetLimits("a", {.memory_bytes = 64 << 20, .cpu_percent = 100, .tasks = 1}));
  int status = 0;
  const pid_t pid = ChildIn("a", ForkAndTell);
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(WEXITSTATUS(status), 2);
}

INSTANTIATE_TEST_SUITE_P(Versions, CgroupTest, ::testing::Values(1u, 2u),
                         [](const auto& info) { return absl::StrCat("V", info.param); });

TEST(OpenCgroupsTest, SaysWhatCannotBeUsed) {
  EXPECT_THAT(OpenCgroups("../x"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(OpenCgroups("/x"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(OpenCgroups(""), StatusIs(absl::StatusCode::kInvalidArgument));
  for (const char* root : {"/nowhere", "/proc", "/tmp"}) {
    const auto cgroups = OpenCgroups("drover", root);
    EXPECT_THAT(cgroups, StatusIs(absl::StatusCode::kFailedPrecondition)) << root;
    EXPECT_EQ(ReasonOf(cgroups.status()), "CGROUPS_UNUSABLE");
  }
}

}  // namespace
}  // namespace drover
