// The helper as built, real jails, and a worker that reports from inside.

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <iostream>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/helper/helper_process.h"
#include "agent/helper/identity_proto.h"
#include "agent/jail/cgroup.h"
#include "agent/jail/process_identity.h"
#include "vmm/base/status_matchers.h"
#include "vmm/base/unix_channel.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kHelper[] = "agent/helper/drover-helper";
constexpr char kWorker[] = "agent/jail/test_worker";
constexpr uint32_t kGid = 1999999998;

bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 6000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

bool Ended(int pidfd, int millis = 30000) {
  struct pollfd entry = {.fd = pidfd, .events = POLLIN, .revents = 0};
  return poll(&entry, 1, millis) > 0;
}

std::vector<std::string> Entries(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<pid_t> ChildrenOf(pid_t pid) {
  std::vector<pid_t> children;
  const auto text = ReadSmallFile(absl::StrCat("/proc/", pid, "/task/", pid, "/children").c_str());
  if (!text.ok()) return children;
  for (const std::string& word : std::vector<std::string>(absl::StrSplit(*text, ' '))) {
    pid_t child;
    if (absl::SimpleAtoi(absl::StripAsciiWhitespace(word), &child)) children.push_back(child);
  }
  return children;
}

class HelperTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "the helper needs root";
    char name[] = "/tmp/drover-helper-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    base_ = name;
    options_.state_dir = base_ + "/state";
    const std::string images = base_ + "/images";
    ASSERT_EQ(mkdir(options_.state_dir.c_str(), 0755), 0);
    ASSERT_EQ(mkdir(images.c_str(), 0755), 0);
    ASSERT_OK(ReplaceFile(images + "/kernel", "the kernel", 0644));
    ASSERT_OK(ReplaceFile(images + "/initrd", "the initrd", 0644));
    options_.worker = std::filesystem::absolute(kWorker);
    options_.image_directories = {images};
    options_.cgroup_parent = absl::StrCat("drover-test-", getpid());
    options_.kvm_device = "/dev/null";  // any device will do here
    options_.userfaultfd_device = "/dev/no-such-userfaultfd";
    options_.agent_gid = kGid;
    options_.uids = {1999990000, 1999990099};
    const auto cgroups = OpenCgroups(options_.cgroup_parent);
    if (!cgroups.ok()) GTEST_SKIP() << cgroups.status();
    ASSERT_OK_AND_ASSIGN(cgroups_, OpenCgroups(options_.cgroup_parent));
  }

  void TearDown() override {
    if (helper_ != nullptr) KillAll();
    helper_ = nullptr;
    if (cgroups_ == nullptr) return;
    EXPECT_TRUE(Eventually([this] { return Groups().empty(); })) << "cgroups remain";
    for (const char* hierarchy : {"", "/freezer", "/memory", "/cpu", "/pids"})
      rmdir(absl::StrCat("/sys/fs/cgroup", hierarchy, "/", options_.cgroup_parent).c_str());
    umount2(options_.state_dir.c_str(), MNT_DETACH);
    std::filesystem::remove_all(base_);
  }

  void KillAll() {
    const auto ids = client().ListWorkers();
    if (!ids.ok()) return;
    for (const std::string& id : *ids) {
      client().Kill(id).IgnoreError();
      EXPECT_TRUE(Eventually([&] { return client().Reap(id).ok(); })) << id;
    }
  }

  void StartHelper() {
    helper_ = nullptr;
    ASSERT_OK_AND_ASSIGN(helper_, HelperProcess::Spawn(kHelper, options_));
  }

  HelperClient& client() { return helper_->client(); }

  WorkerLaunchOptions Launch(const std::string& id) {
    return {.instance_id = id,
            .kernel_path = options_.image_directories[0] + "/kernel",
            .initrd_path = options_.image_directories[0] + "/initrd",
            .vcpus = 2,
            .memory_bytes = 128 << 20};
  }

  // And what should not be there; not the drafts.
  std::vector<std::string> Instances() {
    std::vector<std::string> names = Entries(options_.state_dir + "/workers");
    std::erase_if(names, [](const std::string& name) { return absl::StartsWith(name, ".draft-"); });
    return names;
  }

  std::string DirectoryOf(const std::string& id) { return options_.state_dir + "/workers/" + id; }

  // The answer of the worker behind the instance's control socket.
  absl::StatusOr<std::string> Ask(const std::string& id, const std::string& command) {
    ASSIGN_OR_RETURN(UnixChannel channel, UnixChannel::Connect(DirectoryOf(id) + "/control.sock"));
    RETURN_IF_ERROR(channel.Send(command));
    ASSIGN_OR_RETURN(const ChannelMessage message, channel.Receive(std::chrono::seconds(30)));
    return message.bytes;
  }

  std::vector<std::string> Groups() {
    return cgroups_->List().value_or(std::vector<std::string>{"unknown"});
  }

  std::string Knob(const char* v1_hierarchy, const std::string& group, const char* knob) {
    const std::string hierarchy =
        cgroups_->version() == 1 ? absl::StrCat("/", v1_hierarchy) : std::string();
    const auto text =
        ReadSmallFile(absl::StrCat("/sys/fs/cgroup", hierarchy, group, "/", knob).c_str());
    return text.ok() ? std::string(absl::StripAsciiWhitespace(*text)) : text.status().ToString();
  }

  // What could leak, as one line.
  std::string Inventory() {
    client().ListWorkers().IgnoreError();  // after it, what the call before it opened is closed
    const pid_t pid = helper_->pid();
    return absl::StrCat("children=", ChildrenOf(pid).size(), " cgroups=", Groups().size(),
                        " fds=", Entries(absl::StrCat("/proc/", pid, "/fd")).size(),
                        " instances=", Instances().size());
  }

  // The launch fails, and soon nothing of it is left.
  absl::Status FailedLaunch(const WorkerLaunchOptions& launch) {
    const std::string before = Inventory();
    absl::Status status;
    for (int i = 0; i < 3; ++i) status = client().Launch(launch).status();
    EXPECT_FALSE(status.ok());
    EXPECT_TRUE(Eventually([&] { return Inventory() == before; }))
        << status << ": before " << before << ", after " << Inventory();
    return status;
  }

  std::string base_;
  HelperOptions options_;
  std::unique_ptr<Cgroups> cgroups_;
  std::unique_ptr<HelperProcess> helper_;
};

TEST_F(HelperTest, AWorkerIsJailedAndHandedItsFiles) {
  StartHelper();
  ASSERT_OK_AND_ASSIGN(const LaunchedWorker worker, client().Launch(Launch("one")));
  ASSERT_OK_AND_ASSIGN(const std::string report, Ask("one", "report"));
  EXPECT_THAT(report, HasSubstr("fds=0,1,2,3,4\n"));
  EXPECT_THAT(report, HasSubstr("root_entries=0"));
  EXPECT_THAT(report, HasSubstr(absl::StrCat("uids=", worker.identity.uid, ",")));
  EXPECT_THAT(report, HasSubstr("bounding=0"));
  EXPECT_THAT(report, HasSubstr("launch_fds=5\nfile0=the kernel\nfile1=the initrd\n"));
  EXPECT_EQ(worker.identity.instance_id, "one");
  EXPECT_THAT(ReadStartTicks(worker.identity.pid), IsOkAndHolds(worker.identity.start_ticks));
  EXPECT_THAT(ReadBootId(), IsOkAndHolds(worker.identity.boot_id));
  EXPECT_THAT(ReadSmallFile((DirectoryOf("one") + "/log").c_str()), IsOkAndHolds("launched\n"));
  EXPECT_FALSE(Ended(worker.pidfd.get(), 0));
}

TEST_F(HelperTest, AWorkerHasLimits) {
  StartHelper();
  ASSERT_OK_AND_ASSIGN(const LaunchedWorker worker, client().Launch(Launch("one")));
  const std::string group = worker.identity.cgroup;
  const std::string memory = absl::StrCat((128u + 1 + 64 + 2) << 20);
  EXPECT_EQ(Knob("pids", group, "pids.max"), "34");
  if (cgroups_->version() == 1) {
    EXPECT_EQ(Knob("memory", group, "memory.limit_in_bytes"), memory);
    EXPECT_EQ(Knob("cpu", group, "cpu.cfs_quota_us"), "250000");
  } else {
    EXPECT_EQ(Knob("", group, "memory.max"), memory);
    EXPECT_EQ(Knob("", group, "cpu.max"), "250000 100000");
  }
  for (const char* hierarchy : {"freezer", "memory", "cpu", "pids"})
    EXPECT_EQ(Knob(hierarchy, group, "cgroup.procs"), absl::StrCat(worker.identity.pid));
}

TEST_F(HelperTest, TheAgentsGroupMayConnectAndNobodyElse) {
  StartHelper();
  ASSERT_OK(client().Launch(Launch("one")));
  const auto check = [](const std::string& path, mode_t mode, gid_t gid) {
    struct stat info;
    ASSERT_EQ(stat(path.c_str(), &info), 0) << path;
    EXPECT_EQ(info.st_mode & 07777, mode) << path;
    EXPECT_EQ(info.st_uid, 0u) << path;
    EXPECT_EQ(info.st_gid, gid) << path;
  };
  check(options_.state_dir + "/workers", 02750, kGid);
  check(DirectoryOf("one"), 02750, kGid);
  check(DirectoryOf("one") + "/control.sock", 0660, kGid);
  check(DirectoryOf("one") + "/log", 0640, kGid);
  check(DirectoryOf("one") + "/last-words", 0600, kGid);
  check(DirectoryOf("one") + "/identity", 0600, kGid);
}

TEST_F(HelperTest, LastWordsAndNothingElseRemain) {
  options_.spares = 0;
  StartHelper();
  const std::string before = Inventory();
  ASSERT_OK_AND_ASSIGN(const LaunchedWorker worker, client().Launch(Launch("one")));
  EXPECT_EQ(ReasonOf(client().Reap("one").status()), "WORKER_ALIVE");
  EXPECT_FALSE(Ask("one", "end").ok());
  ASSERT_TRUE(Ended(worker.pidfd.get()));
  EXPECT_EQ(ReasonOf(client().Adopt("one").status()), "WORKER_GONE");
  EXPECT_OK(client().Kill("one"));
  ASSERT_OK_AND_ASSIGN(const GoneWorker gone, client().Reap("one"));
  EXPECT_EQ(gone.last_words, "famous last words");
  EXPECT_EQ(ReasonOf(client().Reap("one").status()), "NO_SUCH_INSTANCE");
  EXPECT_EQ(ReasonOf(client().Adopt("one").status()), "NO_SUCH_INSTANCE");
  EXPECT_OK(client().Kill("one"));
  EXPECT_TRUE(Eventually([&] { return Inventory() == before; })) << before << Inventory();
}

TEST_F(HelperTest, KillEndsAWorkerWithoutWords) {
  StartHelper();
  ASSERT_OK_AND_ASSIGN(const LaunchedWorker worker, client().Launch(Launch("one")));
  ASSERT_OK(client().Kill("one"));
  ASSERT_TRUE(Ended(worker.pidfd.get()));
  ASSERT_OK_AND_ASSIGN(const GoneWorker gone, client().Reap("one"));
  EXPECT_EQ(gone.last_words, "");
}

TEST_F(HelperTest, LastWordsStayUntilTheyAreReaped) {
  StartHelper();
  ASSERT_OK_AND_ASSIGN(const LaunchedWorker worker, client().Launch(Launch("one")));
  EXPECT_EQ(ReasonOf(client().Examine("one").status()), "WORKER_ALIVE");
  EXPECT_FALSE(Ask("one", "end").ok());
  ASSERT_TRUE(Ended(worker.pidfd.get()));
  for (int agent = 0; agent < 2; ++agent) {
    ASSERT_OK_AND_ASSIGN(const GoneWorker gone, client().Examine("one"));
    EXPECT_EQ(gone.last_words, "famous last words");
    StartHelper();
  }
  EXPECT_EQ(client().Reap("one")->last_words, "famous last words");
  EXPECT_EQ(ReasonOf(client().Examine("one").status()), "NO_SUCH_INSTANCE");
}

TEST_F(HelperTest, TellsHowAWorkerEnded) {
  StartHelper();
  const auto end = [&](const std::string& id, const char* command) -> std::optional<ProcessEnd> {
    const auto worker = client().Launch(Launch(id));
    if (!worker.ok()) return std::nullopt;
    EXPECT_FALSE(Ask(id, command).ok());
    EXPECT_TRUE(Ended(worker->pidfd.get()));
    EXPECT_EQ(client().Examine(id)->end, client().Examine(id)->end);
    return client().Reap(id)->end;
  };
  EXPECT_EQ(end("one", "vanish"), (ProcessEnd{.status = 9}));
  EXPECT_EQ(end("two", "forbidden"), (ProcessEnd{.signal = SIGSYS}));
}

TEST_F(HelperTest, HowAnEarlierHelpersWorkerEndedIsNotKnown) {
  StartHelper();
  ASSERT_OK(client().Launch(Launch("one")));
  StartHelper();
  ASSERT_OK_AND_ASSIGN(const LaunchedWorker worker, client().Adopt("one"));
  EXPECT_FALSE(Ask("one", "vanish").ok());
  ASSERT_TRUE(Ended(worker.pidfd.get()));
  EXPECT_EQ(client().Reap("one")->end, std::nullopt);
}

TEST_F(HelperTest, HostileLastWordsAreCut) {
  StartHelper();
  ASSERT_OK_AND_ASSIGN(const LaunchedWorker worker, client().Launch(Launch("one")));
  ASSERT_OK(WriteExisting((DirectoryOf("one") + "/last-words").c_str(), std::string(1 << 20, 'x')));
  ASSERT_OK(client().Kill("one"));
  ASSERT_TRUE(Ended(worker.pidfd.get()));
  ASSERT_OK_AND_ASSIGN(const GoneWorker gone, client().Reap("one"));
  EXPECT_EQ(gone.last_words.size(), 64u * 1024);
}

TEST_F(HelperTest, NoZombieStaysWhenNobodyReaps) {
  options_.spares = 0;
  StartHelper();
  ASSERT_OK_AND_ASSIGN(const LaunchedWorker worker, client().Launch(Launch("one")));
  EXPECT_FALSE(Ask("one", "vanish").ok());
  ASSERT_TRUE(Ended(worker.pidfd.get()));
  EXPECT_TRUE(Eventually([&] { return ChildrenOf(helper_->pid()).empty(); }));
}

TEST_F(HelperTest, AWorkerOutlivesHelpersAndIsAdopted) {
  StartHelper();
  ASSERT_OK_AND_ASSIGN(const LaunchedWorker worker, client().Launch(Launch("one")));
  ASSERT_TRUE(Eventually([&] { return ChildrenOf(helper_->pid()).size() == 3; }));
  kill(helper_->pid(), SIGKILL);
  ASSERT_TRUE(Ended(helper_->pidfd()));
  EXPECT_EQ(ReasonOf(client().Adopt("one").status()), "HELPER_GONE");
  EXPECT_EQ(ReasonOf(client().Launch(Launch("two")).status()), "HELPER_GONE");

  StartHelper();
  EXPECT_THAT(client().ListWorkers(), IsOkAndHolds(ElementsAre("one")));
  ASSERT_OK_AND_ASSIGN(const LaunchedWorker adopted, client().Adopt("one"));
  EXPECT_EQ(adopted.identity.pid, worker.identity.pid);
  EXPECT_EQ(adopted.identity.uid, worker.identity.uid);
  EXPECT_THAT(Ask("one", "report"), IsOkAndHolds(HasSubstr("fds=0,1,2,3,4\n")));
  // Its spares and the worker; what the first helper's spares had is gone.
  EXPECT_TRUE(Eventually([&] { return Groups().size() == 3; }));
  for (const std::string& group : Groups())
    EXPECT_EQ(absl::StrContains(group, absl::StrCat(worker.identity.uid)),
              cgroups_->PathOf(group) == worker.identity.cgroup);
  ASSERT_OK(client().Kill("one"));
  ASSERT_TRUE(Ended(adopted.pidfd.get()));
  ASSERT_TRUE(Eventually([&] { return client().Reap("one").ok(); }));
  EXPECT_TRUE(Eventually([&] { return Groups().size() == 2; }));
}

TEST_F(HelperTest, TheHelperEndsWithItsAgentAndTakesOnlySparesAlong) {
  StartHelper();
  ASSERT_OK_AND_ASSIGN(const LaunchedWorker worker, client().Launch(Launch("one")));
  ASSERT_TRUE(Eventually([&] { return ChildrenOf(helper_->pid()).size() == 3; }));
  helper_ = nullptr;
  EXPECT_EQ(Groups().size(), 1u);
  EXPECT_THAT(Ask("one", "report"), IsOkAndHolds(HasSubstr("pid=1")));
  StartHelper();
}

TEST_F(HelperTest, ADeadWorkersWordsReachTheNextAgent) {
  StartHelper();
  ASSERT_OK_AND_ASSIGN(const LaunchedWorker worker, client().Launch(Launch("one")));
  helper_ = nullptr;
  EXPECT_FALSE(Ask("one", "end").ok());
  ASSERT_TRUE(Ended(worker.pidfd.get()));
  StartHelper();
  EXPECT_EQ(ReasonOf(client().Adopt("one").status()), "WORKER_GONE");
  ASSERT_OK_AND_ASSIGN(const GoneWorker gone, client().Reap("one"));
  EXPECT_EQ(gone.last_words, "famous last words");
}

TEST_F(HelperTest, ARecycledPidIsNoWorker) {
  StartHelper();
  ASSERT_OK(client().Launch(Launch("one")));
  const std::string path = DirectoryOf("one") + "/identity";
  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadSmallFile(path.c_str()));
  worker::v1::WorkerIdentity proto;
  ASSERT_TRUE(proto.ParseFromString(bytes));
  const WorkerIdentity truth = IdentityFromProto(proto);
  KillAll();
  helper_ = nullptr;
  const pid_t bystander = fork();
  if (bystander == 0)
    for (;;) pause();
  ASSERT_OK_AND_ASSIGN(const uint64_t ticks, ReadStartTicks(bystander));
  const auto forge = [&](const std::string& id, uint64_t start, const std::string& boot) {
    WorkerIdentity lie = truth;
    lie.instance_id = id;
    lie.pid = bystander;
    lie.start_ticks = start;
    lie.boot_id = boot;
    ASSERT_EQ(mkdir(DirectoryOf(id).c_str(), 0750), 0);
    ASSERT_OK(
        ReplaceFile(DirectoryOf(id) + "/identity", IdentityToProto(lie).SerializeAsString(), 0600));
  };
  forge("older", ticks - 1, truth.boot_id);
  forge("rebooted", ticks, "00000000-0000-0000-0000-000000000000");
  ASSERT_EQ(mkdir(DirectoryOf("empty").c_str(), 0750), 0);
  ASSERT_EQ(mkdir(DirectoryOf("damaged").c_str(), 0750), 0);
  ASSERT_OK(ReplaceFile(DirectoryOf("damaged") + "/identity", "\xff\xff\xff", 0600));
  StartHelper();
  for (const char* id : {"older", "rebooted", "empty", "damaged"}) {
    EXPECT_EQ(ReasonOf(client().Adopt(id).status()), "WORKER_GONE") << id;
    EXPECT_OK(client().Kill(id)) << id;
    EXPECT_OK(client().Reap(id)) << id;
  }
  EXPECT_EQ(waitpid(bystander, nullptr, WNOHANG), 0) << "a bystander was killed";
  kill(bystander, SIGKILL);
  waitpid(bystander, nullptr, 0);
}

TEST_F(HelperTest, BadRequestsAreRefusedAndLeaveNothing) {
  options_.spares = 0;
  StartHelper();
  const auto reason = [&](const std::function<void(WorkerLaunchOptions*)>& change) {
    WorkerLaunchOptions launch = Launch("one");
    change(&launch);
    const absl::Status status = FailedLaunch(launch);
    return absl::StrCat(ReasonOf(status), " ", FieldOf(status));
  };
  for (const std::string& id : {std::string(), std::string("a/b"), std::string(".."),
                                std::string("A"), std::string(64, 'a'), std::string("a\0b", 3)})
    EXPECT_EQ(reason([&](auto* launch) { launch->instance_id = id; }), "INVALID_INSTANCE_ID ");
  EXPECT_EQ(reason([](auto* launch) { launch->vcpus = 0; }), " vm.spec.vcpus");
  EXPECT_EQ(reason([](auto* launch) { launch->memory_bytes = 0; }), " vm.spec.memory_mib");
  EXPECT_EQ(reason([](auto* launch) { launch->kernel_path = "/etc/passwd"; }),
            "FILE_NOT_ALLOWED vm.spec.boot.kernel_path");
  EXPECT_EQ(reason([](auto* launch) { launch->initrd_path += "x"; }),
            "FILE_NOT_FOUND vm.spec.boot.initrd_path");
}

TEST_F(HelperTest, AnInstanceExistsOnce) {
  StartHelper();
  ASSERT_OK(client().Launch(Launch("one")));
  EXPECT_EQ(ReasonOf(client().Launch(Launch("one")).status()), "INSTANCE_EXISTS");
  EXPECT_THAT(Ask("one", "report"), IsOkAndHolds(HasSubstr("pid=1")));
}

TEST_F(HelperTest, ABadWorkerProgramLeavesNothing) {
  for (const char* program : {"/etc/passwd", "/nowhere", "/"}) {
    options_.worker = program;
    options_.spares = 0;
    StartHelper();
    EXPECT_FALSE(FailedLaunch(Launch("one")).ok());
  }
  options_.spares = 2;
  StartHelper();
  EXPECT_FALSE(client().Launch(Launch("one")).ok());
  EXPECT_TRUE(Eventually([&] { return Groups().empty(); }));
}

TEST_F(HelperTest, WithoutKvm) {
  options_.kvm_device = "/dev/no-such-kvm";
  StartHelper();
  const absl::Status status = FailedLaunch(Launch("one"));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("load kvm_intel")));
  EXPECT_EQ(ReasonOf(status), "KVM_UNUSABLE");
  ASSERT_OK_AND_ASSIGN(const HelperProbe probe, client().Probe());
  EXPECT_THAT(probe.kvm_unusable, HasSubstr("/dev/no-such-kvm"));
}

TEST_F(HelperTest, AFullStateDirectory) {
  ASSERT_EQ(mount("full", options_.state_dir.c_str(), "tmpfs", 0, "size=16k,nr_inodes=8"), 0);
  options_.spares = 0;  // their drafts take inodes
  StartHelper();
  std::vector<std::string> fillers;  // every count of free inodes: each step fails in turn
  for (int i = 0; i < 6; ++i) {
    const std::string filler = absl::StrCat(options_.state_dir, "/filler", i);
    const auto file = OpenFile(filler.c_str(), O_CREAT | O_WRONLY, 0600);
    if (!file.ok()) break;
    const absl::Status status = client().Launch(Launch("one")).status();
    if (status.ok()) {
      KillAll();
      continue;
    }
    EXPECT_EQ(ReasonOf(status), "STATE_DIR_FULL") << status;
    EXPECT_THAT(Instances(), IsEmpty());
  }
  // The workers of before are gone by then.
  EXPECT_TRUE(Eventually([&] { return Groups().empty() && ChildrenOf(helper_->pid()).empty(); }));
  EXPECT_EQ(ReasonOf(FailedLaunch(Launch("one"))), "STATE_DIR_FULL");
  for (int i = 0; i < 6; ++i) unlink(absl::StrCat(options_.state_dir, "/filler", i).c_str());
  EXPECT_OK(client().Launch(Launch("one")));
}

TEST_F(HelperTest, AFullDisk) {
  ASSERT_EQ(mount("full", options_.state_dir.c_str(), "tmpfs", 0, "size=16k"), 0);
  options_.spares = 0;
  StartHelper();
  {
    ASSERT_OK_AND_ASSIGN(const Fd file, OpenFile((options_.state_dir + "/filler").c_str(),
                                                 O_CREAT | O_WRONLY, 0600));
    EXPECT_THAT(WriteAll(file.get(), std::string(64 << 10, 'x')), HasErrno(ENOSPC));
  }
  const absl::Status status = FailedLaunch(Launch("one"));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(ReasonOf(status), "STATE_DIR_FULL");
}

TEST_F(HelperTest, WithoutCgroups) {
  options_.cgroup_root = "/tmp";
  StartHelper();
  EXPECT_EQ(ReasonOf(FailedLaunch(Launch("one"))), "CGROUPS_UNUSABLE");
  ASSERT_OK_AND_ASSIGN(const HelperProbe probe, client().Probe());
  EXPECT_EQ(probe.cgroup_version, 0u);
  EXPECT_THAT(probe.warnings, ::testing::Contains(HasSubstr("cgroup")));
}

TEST_F(HelperTest, UserIdsRunOut) {
  options_.uids = {1999990000, 1999990001};
  options_.spares = 0;
  StartHelper();
  ASSERT_OK(client().Launch(Launch("one")));
  ASSERT_OK(client().Launch(Launch("two")));
  EXPECT_EQ(ReasonOf(FailedLaunch(Launch("three"))), "WORKER_UIDS_EXHAUSTED");
  StartHelper();  // knows which are taken
  EXPECT_EQ(ReasonOf(FailedLaunch(Launch("three"))), "WORKER_UIDS_EXHAUSTED");
  KillAll();
  EXPECT_TRUE(Eventually([&] { return client().Launch(Launch("three")).ok(); }));
}

TEST_F(HelperTest, DeadSparesAreReplaced) {
  StartHelper();
  const auto spares = [&] { return ChildrenOf(helper_->pid()); };
  ASSERT_TRUE(Eventually([&] { return spares().size() == 2; }));
  const std::vector<pid_t> first = spares();
  for (const pid_t pid : first) kill(pid, SIGKILL);
  EXPECT_TRUE(Eventually([&] {
    const std::vector<pid_t> now = spares();
    return now.size() == 2 &&
           std::find_first_of(now.begin(), now.end(), first.begin(), first.end()) == now.end();
  }));
  for (const pid_t pid : spares()) {
    const Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    kill(pid, SIGKILL);
    EXPECT_TRUE(Ended(pidfd.get()));
  }
  EXPECT_OK(client().Launch(Launch("one")));  // whether it has noticed or not
  EXPECT_THAT(Ask("one", "report"), IsOkAndHolds(HasSubstr("pid=1")));
}

TEST_F(HelperTest, WithoutSparesAndWithMany) {
  for (const uint32_t spares : {0u, 5u}) {
    options_.spares = spares;
    StartHelper();
    for (int i = 0; i < 8; ++i) ASSERT_OK(client().Launch(Launch(absl::StrCat("vm-", i))));
    EXPECT_THAT(Ask("vm-7", "report"), IsOkAndHolds(HasSubstr("pid=1")));
    KillAll();
  }
}

TEST_F(HelperTest, ChecksFiles) {
  StartHelper();
  const std::string images = options_.image_directories[0];
  EXPECT_OK(client().CheckFile(images + "/kernel", "f"));
  const absl::Status status = client().CheckFile(images + "/none", "vm.spec.boot.kernel_path");
  EXPECT_EQ(ReasonOf(status), "FILE_NOT_FOUND");
  EXPECT_EQ(FieldOf(status), "vm.spec.boot.kernel_path");
  EXPECT_THAT(client().CheckFile(std::string(200000, 'x'), "f"),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_OK(client().CheckFile(images + "/kernel", "f"));
}

TEST_F(HelperTest, Probes) {
  options_.image_directories.push_back(base_ + "/missing");
  StartHelper();
  ASSERT_OK_AND_ASSIGN(const HelperProbe probe, client().Probe());
  EXPECT_EQ(probe.kvm_unusable, "");
  EXPECT_EQ(probe.cgroup_version, cgroups_->version());
  EXPECT_EQ(probe.capabilities.at("kind"), "test");
  EXPECT_EQ(probe.capabilities.at("max_vcpus"), "4");
  EXPECT_THAT(probe.warnings, ::testing::Contains(HasSubstr("missing does not exist")));
  EXPECT_EQ(probe.image_directories, options_.image_directories);
}

TEST_F(HelperTest, AWorkerGetsTheUserfaultfdDeviceWhereThereIsOne) {
  options_.userfaultfd_device = "/dev/zero";  // any device will do here
  StartHelper();
  ASSERT_OK(client().Launch(Launch("one")).status());
  EXPECT_THAT(Ask("one", "report"), IsOkAndHolds(HasSubstr("fds=0,1,2,3,4,5\n")));
}

TEST_F(HelperTest, SaysWhyItCannotStart) {
  options_.state_dir = "/nowhere";
  EXPECT_THAT(HelperProcess::Spawn(kHelper, options_).status(), HasErrno(ENOENT));
  options_.state_dir = "relative";
  EXPECT_THAT(HelperProcess::Spawn(kHelper, options_).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--state-dir")));
  EXPECT_THAT(HelperProcess::Spawn("/no/helper", options_).status(), HasErrno(ENOENT));
  options_.state_dir = base_ + "/state";
  ASSERT_EQ(mkdir((options_.state_dir + "/workers").c_str(), 0777), 0);
  ASSERT_EQ(chown((options_.state_dir + "/workers").c_str(), 12345, 12345), 0);
  EXPECT_THAT(HelperProcess::Spawn(kHelper, options_).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("belongs to user 12345")));
}

TEST_F(HelperTest, HoldsTheAgentsLock) {
  ASSERT_OK_AND_ASSIGN(const Fd lock, OpenFile((base_ + "/lock").c_str(), O_CREAT | O_RDWR, 0600));
  options_.lock_fd = lock.get();
  StartHelper();
  EXPECT_EQ(std::filesystem::read_symlink(absl::StrCat("/proc/", helper_->pid(), "/fd/4")),
            base_ + "/lock");
  ASSERT_OK_AND_ASSIGN(const LaunchedWorker worker, client().Launch(Launch("one")));
  for (const std::string& fd : Entries(absl::StrCat("/proc/", worker.identity.pid, "/fd"))) {
    std::error_code error;
    EXPECT_NE(std::filesystem::read_symlink(absl::StrCat("/proc/", worker.identity.pid, "/fd/", fd),
                                            error),
              base_ + "/lock");
  }
}

// No assertion: the figures are for the reader.
TEST_F(HelperTest, PrintsWhatALaunchTakes) {
  const auto print = [&](const char* what, size_t await_children) {
    std::vector<int64_t> micros;
    for (int i = 0; i < 20; ++i) {
      EXPECT_TRUE(
          Eventually([&] { return ChildrenOf(helper_->pid()).size() >= await_children + i; }));
      const auto start = std::chrono::steady_clock::now();
      ASSERT_OK(client().Launch(Launch(absl::StrCat("vm-", i))));
      micros.push_back((std::chrono::steady_clock::now() - start) / std::chrono::microseconds(1));
    }
    std::sort(micros.begin(), micros.end());
    std::cerr << "launch " << what << ": best " << micros[0] << " us, median " << micros[10]
              << ", worst " << micros[19] << "\n";
    KillAll();
  };
  StartHelper();
  print("of a spare", options_.spares);
  StartHelper();
  print("in a burst with 2 spares", 0);
  options_.spares = 0;
  StartHelper();
  print("without spares", 0);
}

}  // namespace
}  // namespace drover
