#include "agent/jail/jail.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/jail/namespaces.h"
#include "agent/jail/process_identity.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::HasSubstr;

constexpr char kWorker[] = "agent/jail/test_worker";
constexpr uint32_t kUid = 1999999999;

int OpenDescriptors() {
  int count = 0;
  DIR* const directory = opendir("/proc/self/fd");
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

bool HasChildren() { return waitpid(-1, nullptr, WNOHANG) >= 0; }

class JailTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "jails need root";
    ASSERT_OK_AND_ASSIGN(executable_, OpenFile(kWorker, O_PATH));
    ASSERT_OK_AND_ASSIGN(null_, OpenFile("/dev/null", O_RDWR));
    ASSERT_OK_AND_ASSIGN(const NamespaceSet set, ProbeNamespaces());
    for (const std::string& warning : set.warnings) std::cerr << "WARNING: " << warning << "\n";
    namespaces_ = set.flags;
    int fds[2];
    ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
    out_.Reset(fds[0]);
    in_.Reset(fds[1]);
  }

  JailOptions Options() {
    JailOptions options;
    options.executable = executable_.get();
    options.argv = {"worker", "--report"};
    options.descriptors = {null_.get(), in_.get(), null_.get(), null_.get(), null_.get()};
    options.namespaces = namespaces_;
    options.uid = kUid;
    return options;
  }

  // Runs it to its end: what it wrote to descriptor 1.
  std::string Run(const JailOptions& options) {
    absl::StatusOr<JailedProcess> process = SpawnJailed(options);
    EXPECT_OK(process);
    if (!process.ok()) return "";
    in_.Reset();
    const auto text = ReadSmallFd(out_.get());
    int status = 0;
    EXPECT_EQ(waitpid(process->pid, &status, 0), process->pid);
    EXPECT_EQ(status, 0);
    EXPECT_TRUE(HasEnded(process->pidfd.get()));
    return text.ok() ? *text : "";
  }

  // Nothing is left of a child that failed to start.
  absl::Status Failure(const JailOptions& options) {
    const int before = OpenDescriptors();
    const absl::Status status = SpawnJailed(options).status();
    EXPECT_EQ(OpenDescriptors(), before);
    EXPECT_FALSE(HasChildren());
    return status;
  }

  Fd executable_, null_, out_, in_;
  uint64_t namespaces_ = 0;
};

TEST_F(JailTest, NothingIsInside) {
  setenv("SECRET", "x", 1);
  signal(SIGUSR1, SIG_IGN);
  const std::string report = Run(Options());
  signal(SIGUSR1, SIG_DFL);
  EXPECT_THAT(report, HasSubstr("fds=0,1,2,3,4\n"));
  EXPECT_THAT(report, HasSubstr("root_entries=0 root_mode=555 above=root\n"));
  EXPECT_THAT(report, HasSubstr("create=EROFS\n"));
  EXPECT_THAT(report, HasSubstr("mkdir=EROFS\n"));
  EXPECT_THAT(report, HasSubstr("remount=EPERM\n"));
  EXPECT_THAT(report, HasSubstr("proc=ENOENT\n"));
  EXPECT_THAT(report, HasSubstr("environment=0 hostname=worker argc=2 last=--report\n"));
  EXPECT_THAT(report, HasSubstr("blocked=0 not_default=0\n"));
  EXPECT_THAT(report, HasSubstr("nofile=1024 core=0 memlock=0\n"));
  if (namespaces_ & CLONE_NEWPID) {
    EXPECT_THAT(report, HasSubstr("pid=1 ppid=0 sid=1\n"));
  }
  if (namespaces_ & CLONE_NEWNET) {
    EXPECT_THAT(report, HasSubstr("interfaces=1 up=0\n"));
  }
}

TEST_F(JailTest, NoPrivilegeIsLeft) {
  const std::string report = Run(Options());
  EXPECT_THAT(report, HasSubstr(absl::StrCat("uids=", kUid, ",", kUid, ",", kUid, " gids=", kUid,
                                             ",", kUid, ",", kUid, " groups=0\n")));
  EXPECT_THAT(report, HasSubstr("effective=0 permitted=0 inheritable=0 bounding=0 ambient=0\n"));
  EXPECT_THAT(report, HasSubstr("no_new_privs=1 securebits=ef\n"));
  EXPECT_THAT(report, HasSubstr("unshare=EPERM\n"));
  EXPECT_FALSE(absl::StrContains(report, "setuid=0"));
}

// Hosts differ in what they allow: the jail holds with the mount namespace alone.
TEST_F(JailTest, TheSameWithoutUserNamespace) {
  JailOptions options = Options();
  options.namespaces = CLONE_NEWNS;
  const std::string report = Run(options);
  EXPECT_THAT(report, HasSubstr("root_entries=0 root_mode=555 above=root\n"));
  EXPECT_THAT(report, HasSubstr(absl::StrCat("uids=", kUid, ",", kUid, ",", kUid)));
  EXPECT_THAT(report, HasSubstr("effective=0 permitted=0 inheritable=0 bounding=0 ambient=0\n"));
  EXPECT_THAT(report, HasSubstr("setuid=EPERM unshare=EPERM\n"));
}

TEST_F(JailTest, SeenFromOutside) {
  JailOptions options = Options();
  int channel[2];
  ASSERT_EQ(pipe2(channel, O_CLOEXEC), 0);
  Fd hold(channel[1]);
  const Fd wait(channel[0]);
  options.argv = {"worker", "--worker"};  // it waits for a launch on descriptor 3
  options.descriptors[3] = wait.get();
  ASSERT_OK_AND_ASSIGN(const JailedProcess process, SpawnJailed(options));
  struct stat info;
  ASSERT_EQ(stat(absl::StrCat("/proc/", process.pid).c_str(), &info), 0);
  ASSERT_OK_AND_ASSIGN(const std::string status,
                       ReadSmallFile(absl::StrCat("/proc/", process.pid, "/status").c_str()));
  EXPECT_THAT(status, HasSubstr(absl::StrCat("Uid:\t", kUid, "\t", kUid)));
  EXPECT_THAT(status, HasSubstr("NoNewPrivs:\t1"));
  EXPECT_THAT(status, HasSubstr("CapBnd:\t0000000000000000"));
  ASSERT_OK(KillProcess(process.pidfd.get()));
  ASSERT_EQ(waitpid(process.pid, nullptr, 0), process.pid);
}

TEST_F(JailTest, SixteenDescriptorsInAnyOrder) {
  JailOptions options = Options();
  options.descriptors.assign(16, null_.get());
  options.descriptors[1] = in_.get();
  EXPECT_THAT(Run(options), HasSubstr("fds=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"));
}

TEST_F(JailTest, EachFailureNamesItsStepAndLeavesNothing) {
  JailOptions options = Options();
  options.executable = null_.get();
  EXPECT_THAT(Failure(options),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("execute the program")));

  options = Options();
  options.descriptors[2] = 9999;
  EXPECT_THAT(Failure(options), HasErrno(EBADF));
  EXPECT_THAT(std::string(Failure(options).message()), HasSubstr("lay out its descriptors"));

  options = Options();
  ASSERT_OK_AND_ASSIGN(const Fd full, OpenFile("/dev/full", O_WRONLY));
  options.cgroup_joins = {full.get()};
  EXPECT_THAT(Failure(options), HasErrno(ENOSPC));
  EXPECT_THAT(std::string(Failure(options).message()), HasSubstr("join its cgroups"));

  options = Options();
  options.uid = 0;
  EXPECT_THAT(Failure(options), StatusIs(absl::StatusCode::kInvalidArgument));

  options = Options();
  options.descriptors.resize(17);
  EXPECT_THAT(Failure(options), StatusIs(absl::StatusCode::kInvalidArgument));

  options = Options();
  options.cgroup = null_.get();
  EXPECT_THAT(Failure(options), HasErrno(EBADF));
}

TEST_F(JailTest, ATextFileIsNoProgram) {
  char name[] = "/tmp/drover-jail-XXXXXX";
  const Fd file(mkostemp(name, O_CLOEXEC));
  ASSERT_OK(WriteAll(file.get(), "this is no program"));
  ASSERT_EQ(fchmod(file.get(), 0755), 0);
  ASSERT_OK_AND_ASSIGN(const Fd program, OpenFile(name, O_PATH));
  unlink(name);
  JailOptions options = Options();
  options.executable = program.get();
  EXPECT_THAT(Failure(options), ::testing::AnyOf(HasErrno(ENOEXEC), HasErrno(ETXTBSY)));
}

}  // namespace
}  // namespace drover
