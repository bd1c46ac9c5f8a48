#include "agent/cli/cli.h"

#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <poll.h>
#include <pty.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <sstream>

#include "agent/cli/completion.h"
#include "agent/errors/field_violations.h"
#include "agent/service/service_harness.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

struct Ran {
  int code;
  std::string out;
  std::string err;
};

class CliTest : public ::testing::Test {
 protected:
  void SetUp() override {
    harness_.Open();
    setenv("DROVER_ADDRESS", harness_.address().c_str(), 1);
  }
  void TearDown() override { unsetenv("DROVER_ADDRESS"); }

  Ran Run(const std::vector<std::string>& args) {
    std::ostringstream out, err;
    const int code = RunCli(args, {.out = out, .err = err});
    return {code, out.str(), err.str()};
  }
  Ran Create(const std::string& id, std::vector<std::string> more = {}) {
    std::vector<std::string> args = {"vm", "create", id, "--kernel", "/images/k"};
    args.insert(args.end(), more.begin(), more.end());
    return Run(args);
  }

  ServiceHarness harness_;
};

TEST_F(CliTest, LeadsAVmThroughItsLife) {
  Ran ran = Create("web-1", {"--memory", "1G", "--vcpus", "2", "--label", "team=db", "--start"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, AllOf(StartsWith("ID "), HasSubstr("web-1"), HasSubstr("running"),
                             HasSubstr("1024M")));
  for (const char* verb : {"pause", "resume", "reboot", "stop", "start"})
    EXPECT_EQ(Run({"vm", verb, "web-1"}).code, 0) << verb;
  ran = Run({"vm", "get", "web-1"});
  EXPECT_THAT(ran.out, AllOf(HasSubstr("state:           running"), HasSubstr("team=db"),
                             HasSubstr("worker pid:      42")));
  EXPECT_EQ(Run({"vm", "delete", "web-1"}).code, kExitWrongState);
  ran = Run({"vm", "delete", "web-1", "--force"});
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.out, "deleted web-1\n");
  EXPECT_EQ(Run({"vm", "delete", "web-1", "--allow-missing"}).code, 0);
}

TEST_F(CliTest, PrintsJsonThatTheApiReadsBack) {
  Create("a", {"--cmdline", "console=ttyS0"});
  const Ran get = Run({"vm", "get", "a", "-o", "json"});
  v1::Vm vm;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(get.out, &vm).ok()) << get.out;
  EXPECT_EQ(vm.spec().boot().command_line(), "console=ttyS0");
  const Ran list = Run({"-o", "json", "vm", "list"});
  v1::ListVmsResponse vms;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(list.out, &vms).ok()) << list.out;
  EXPECT_EQ(vms.vms_size(), 1);
  v1::Host host;
  ASSERT_TRUE(
      google::protobuf::util::JsonStringToMessage(Run({"host", "-o", "json"}).out, &host).ok() &&
      google::protobuf::util::JsonStringToMessage(Run({"host", "--output=json"}).out, &host).ok());
  EXPECT_EQ(host.hostname(), "testhost");
}

TEST_F(CliTest, ListsEveryPageAndIdsAlone) {
  for (int i = 0; i < 1201; ++i) harness_.AddVm("v" + std::to_string(10000 + i));
  const Ran ran = Run({"vm", "list", "-o", "id"});
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1201);
  EXPECT_THAT(ran.out, StartsWith("v10000\nv10001\n"));
}

TEST_F(CliTest, DescribesTheHost) {
  const Ran ran = Run({"host"});
  EXPECT_EQ(ran.code, 0);
  EXPECT_THAT(ran.out, AllOf(HasSubstr("testhost"), HasSubstr("kvm"), HasSubstr("/images"),
                             HasSubstr("no user namespaces"),
                             HasSubstr("withheld:             tsc_control")));
}

TEST_F(CliTest, AsksForFeaturesAndShowsWhatWasTakenInstead) {
  Ran ran =
      Create("a", {"--memory-pages", "2M", "--dirty-log=ring", "--snapshots", "live", "--migration",
                   "post-copy", "--require", "memory-pages", "--require", "migration"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const VmFeatures wanted = {.memory_pages = {MemoryPages::k2M, true},
                             .dirty_log = {DirtyLogMode::kRing, false},
                             .snapshots = {SnapshotMode::kLive, false},
                             .migration = {MigrationMode::kPostCopy, true}};
  EXPECT_EQ(harness_.backend().Snapshot()[0].spec.features, wanted);
  harness_.backend().SetPlan(
      "a", {MemoryPages::k2M,
            DirtyLogMode::kBitmap,
            SnapshotMode::kLive,
            MigrationMode::kUnspecified,
            {{"vm.spec.dirty_log.kind", "dirty ring", "dirty bitmap", "dirty_ring_bytes",
              "the host has no capability dirty_ring_bytes"}}});
  EXPECT_THAT(Run({"vm", "get", "a"}).out,
              AllOf(HasSubstr("memory pages:  2M"), HasSubstr("dirty log:     bitmap"),
                    HasSubstr("snapshots:     live"), HasSubstr("migration:     none"),
                    HasSubstr("fallback:      dirty bitmap instead of dirty ring: the host has "
                              "no capability dirty_ring_bytes")));
  EXPECT_EQ(Create("b").code, 0);
  EXPECT_EQ(harness_.backend().Snapshot()[1].spec.features, VmFeatures());
}

TEST_F(CliTest, ChecksWithoutMaking) {
  const Ran ran = Create("a", {"--dry-run", "--start"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("nothing was made"));
  EXPECT_TRUE(harness_.backend().Snapshot().empty());
}

TEST_F(CliTest, SaysWhatIsWrongAndWhatToDo) {
  Ran ran = Create("a", {"--vcpus", "0", "--memory", "1"});
  EXPECT_EQ(ran.code, kExitUsage);
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, AllOf(HasSubstr("INVALID_ARGUMENT"), HasSubstr("  vm.spec.vcpus: "),
                             HasSubstr("  vm.spec.memory_mib: ")));
  ran = Run({"vm", "get", "nobody"});
  EXPECT_EQ(ran.code, kExitNotFound);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("VM_NOT_FOUND"), HasSubstr("drover vm list")));
  Create("a");
  EXPECT_EQ(Create("a").code, kExitExists);
  ran = Run({"vm", "pause", "a"});
  EXPECT_EQ(ran.code, kExitWrongState);
  EXPECT_THAT(ran.err, HasSubstr("drover vm get a"));
  EXPECT_EQ(Run({"vm", "start", "a", "--etag", "99"}).code, kExitWrongState);
  harness_.backend().FailNext(
      WithRetryDelay(absl::ResourceExhaustedError("full"), std::chrono::milliseconds(1200)));
  ran = Create("b");
  EXPECT_EQ(ran.code, kExitNoRoom);
  EXPECT_THAT(ran.err, HasSubstr("after 2 s"));
}

TEST_F(CliTest, EscapesWhatATerminalWouldObey) {
  harness_.backend().FailNext(absl::InternalError("\"evil\" \x1b[2J\xff\xc2\x9b"));
  const Ran ran = Run({"vm", "get", "a"});
  EXPECT_EQ(ran.code, kExitError);
  EXPECT_THAT(ran.err, StartsWith("drover: \"evil\" \\x1b[2J?\\x9b (INTERNAL)"));
}

TEST_F(CliTest, SaysThatTheAgentDoesNotAnswer) {
  const Ran ran = Run({"vm", "list", "--address", "/tmp/drover-nobody-here.sock"});
  EXPECT_EQ(ran.code, kExitUnavailable);
  EXPECT_THAT(ran.err,
              AllOf(HasSubstr("is drover-agent running"), HasSubstr("unix:/tmp/drover-nobody")));
}

TEST_F(CliTest, RefusesCommandLinesThatAreWrong) {
  const auto expect = [&](const std::vector<std::string>& args, const std::string& text) {
    const Ran ran = Run(args);
    EXPECT_EQ(ran.code, kExitUsage) << text;
    EXPECT_THAT(ran.err, HasSubstr(text));
    EXPECT_EQ(ran.out, "");
  };
  expect({}, "Examples:");
  expect({"vm", "strat", "a"}, "did you mean `drover vm start`?");
  expect({"start", "a"}, "did you mean `drover vm start`?");
  expect({"zzz"}, "there is no command \"zzz\"");
  expect({"vm", "start"}, "needs ID");
  expect({"vm", "start", "a", "b"}, "has no use for \"b\"");
  expect({"vm", "list", "--bogus"}, "unknown option --bogus");
  expect({"vm", "get", "a", "-o", "id"}, "vm list");
  expect({"vm", "create", "a"}, "--kernel FILE is required");
  expect({"vm", "create", "a", "--kernel", "/k", "--memory", "lots"}, "no amount of memory");
  expect({"vm", "create", "a", "--kernel", "/k", "--vcpus", "two"}, "--vcpus is \"two\"");
  expect({"vm", "create", "a", "--kernel", "/k", "--label", "=x"}, "KEY=VALUE");
  expect({"vm", "create", "a", "--kernel", "/k", "--memory-pages", "1G"}, "one of: 4K 2M");
  expect({"vm", "create", "a", "--kernel", "/k", "--require", "speed"}, "one of: memory-pages");
  expect({"vm", "create", "a", "--kernel", "/k", "--require", "dirty-log"}, "needs --dirty-log");
  expect({"vm", "stop", "a", "--grace", "soon"}, "no duration");
  expect({"completion", "tcsh"}, "bash, zsh and fish");
  EXPECT_TRUE(harness_.backend().Snapshot().empty());
}

TEST_F(CliTest, PassesGraceAndForce) {
  Create("a", {"--start"});
  EXPECT_EQ(Run({"vm", "stop", "a", "--grace", "1500ms", "--force"}).code, 0);
  EXPECT_EQ(harness_.backend().last_grace(), std::chrono::milliseconds(1500));
  EXPECT_TRUE(harness_.backend().last_force());
}

TEST_F(CliTest, HelpsWithExamplesFirst) {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{{"--help"},
                                             {"help"},
                                             {"vm", "--help"},
                                             {"vm"},
                                             {"vm", "create", "--help"},
                                             {"vm", "console", "-h"},
                                             {"host", "--help"}}) {
    const Ran ran = Run(args);
    EXPECT_EQ(ran.code, 0);
    EXPECT_LT(ran.out.find("Examples:"), ran.out.find("--address"));
  }
  EXPECT_THAT(Run({"--help"}).out, HasSubstr("Exit codes:"));
  EXPECT_THAT(Run({"--version"}).out, StartsWith("drover "));
}

TEST_F(CliTest, AsksBeforeItDeletesAtATerminal) {
  for (const auto& [answer, code] : {std::pair{"n\n", 1}, {"y\n", 0}}) {
    harness_.AddVm(answer[0] == 'n' ? "a" : "b");
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const Fd in(ends[0]), typed(ends[1]);
    ASSERT_OK(WriteAll(typed.get(), answer));
    std::ostringstream out, err;
    EXPECT_EQ(RunCli({"vm", "delete", answer[0] == 'n' ? "a" : "b"},
                     {.out = out, .err = err, .in_fd = in.get(), .in_is_tty = true}),
              code);
    EXPECT_THAT(err.str(), HasSubstr("[y/N]"));
  }
  EXPECT_EQ(harness_.backend().Snapshot().size(), 1u);
}

// A console command on one side of a terminal, the person on the other.
class ConsoleTest : public CliTest {
 protected:
  void SetUp() override {
    CliTest::SetUp();
    harness_.AddVm("a");
    int keyboard, terminal;
    ASSERT_EQ(openpty(&keyboard, &terminal, nullptr, nullptr, nullptr), 0);
    keyboard_.Reset(keyboard);
    terminal_.Reset(terminal);
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    screen_.Reset(ends[0]);
    screen_in_.Reset(ends[1]);
  }
  std::future<int> Visit(const std::vector<std::string>& args) {
    return std::async(std::launch::async, [this, args] {
      return RunCli(args, {.out = out_,
                           .err = err_,
                           .in_fd = terminal_.get(),
                           .out_fd = screen_in_.get(),
                           .in_is_tty = true});
    });
  }
  std::string See(size_t bytes) {
    std::string text(bytes, '\0');
    size_t have = 0;
    while (have < bytes) {
      const ssize_t n = read(screen_.get(), &text[have], bytes - have);
      if (n <= 0) break;
      have += static_cast<size_t>(n);
    }
    text.resize(have);
    return text;
  }
  bool Canonical() const {
    struct termios mode;
    tcgetattr(terminal_.get(), &mode);
    return (mode.c_lflag & ICANON) != 0;
  }

  Fd keyboard_, terminal_, screen_, screen_in_;
  std::ostringstream out_, err_;
};

TEST_F(ConsoleTest, JoinsTheTerminalAndGivesItBack) {
  std::future<int> visit = Visit({"vm", "console", "a"});
  const Fd guest = harness_.backend().TakeGuestConsole();
  ASSERT_OK(WriteAll(guest.get(), "login: "));
  EXPECT_EQ(See(7), "login: ");
  EXPECT_FALSE(Canonical());
  ASSERT_OK(WriteAll(keyboard_.get(), "root\r"));
  char typed[5];
  ASSERT_EQ(recv(guest.get(), typed, 5, MSG_WAITALL), 5);
  EXPECT_EQ(std::string(typed, 5), "root\r");
  ASSERT_OK(WriteAll(keyboard_.get(), "~."));
  EXPECT_EQ(visit.get(), 0);
  EXPECT_TRUE(Canonical());
  EXPECT_THAT(err_.str(), HasSubstr("the VM runs on"));
}

TEST_F(ConsoleTest, EndsWithTheVm) {
  std::future<int> visit = Visit({"vm", "console", "a"});
  Fd guest = harness_.backend().TakeGuestConsole();
  ASSERT_OK(WriteAll(guest.get(), "bye"));
  guest.Reset();
  EXPECT_EQ(visit.get(), 0);
  EXPECT_EQ(See(3), "bye");
  EXPECT_TRUE(Canonical());
}

TEST_F(ConsoleTest, RestoresTheTerminalOnASignal) {
  std::future<int> visit = Visit({"vm", "console", "a"});
  const Fd guest = harness_.backend().TakeGuestConsole();
  ASSERT_OK(WriteAll(guest.get(), "x"));
  EXPECT_EQ(See(1), "x");
  kill(getpid(), SIGTERM);
  EXPECT_EQ(visit.get(), 128 + SIGTERM);
  EXPECT_TRUE(Canonical());
}

TEST_F(ConsoleTest, ReportsAnUnknownVm) {
  EXPECT_EQ(Visit({"vm", "console", "nobody"}).get(), kExitNotFound);
  EXPECT_TRUE(Canonical());
}

TEST_F(ConsoleTest, FollowsTheOutputWhenItsInputIsAFile) {
  ASSERT_OK_AND_ASSIGN(const Fd null, OpenFile("/dev/null", O_RDONLY));
  std::future<int> visit = std::async(std::launch::async, [&] {
    return RunCli({"vm", "console", "a"},
                  {.out = out_, .err = err_, .in_fd = null.get(), .out_fd = screen_in_.get()});
  });
  Fd guest = harness_.backend().TakeGuestConsole();
  ASSERT_OK(WriteAll(guest.get(), "still here"));
  EXPECT_EQ(See(10), "still here");
  guest.Reset();
  EXPECT_EQ(visit.get(), 0);
}

class CompletionTest : public ::testing::TestWithParam<const char*> {};

TEST_P(CompletionTest, IsAScriptThatTheShellTakes) {
  const std::string shell = GetParam();
  ASSERT_OK_AND_ASSIGN(const std::string script, CompletionScript(shell));
  EXPECT_THAT(script, AllOf(HasSubstr("console"), HasSubstr("memory"), HasSubstr("vm list -o id"),
                            HasSubstr("post-copy"), HasSubstr("memory-pages dirty-log"),
                            Not(HasSubstr("@"
                                          "CASES"))));
  if (system(("command -v " + shell + " >/dev/null").c_str()) != 0)
    GTEST_SKIP() << shell << " is not installed";
  char path[] = "/tmp/drover-completion-XXXXXX";
  const Fd file(mkstemp(path));
  ASSERT_OK(WriteAll(file.get(), script));
  EXPECT_EQ(system((shell + " -n " + path).c_str()), 0);
  unlink(path);
}

INSTANTIATE_TEST_SUITE_P(Shells, CompletionTest, ::testing::Values("bash", "zsh", "fish"));

}  // namespace
}  // namespace drover
