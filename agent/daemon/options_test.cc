#include "agent/daemon/options.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<DaemonOptions> Parse(const std::vector<std::string>& args,
                                    const std::map<std::string, std::string>& variables = {}) {
  return ParseDaemonOptions(
      args,
      [&](const std::string& name) {
        const auto it = variables.find(name);
        return it == variables.end() ? "" : it->second;
      },
      "/opt/drover");
}

TEST(ParseDaemonOptionsTest, HasDefaults) {
  ASSERT_OK_AND_ASSIGN(const DaemonOptions options, Parse({}));
  EXPECT_EQ(options.state_dir, "/var/lib/drover");
  EXPECT_EQ(options.listen, "/run/drover/agent.sock");
  EXPECT_EQ(options.insecure_listen, "");
  EXPECT_EQ(options.metrics_listen, "127.0.0.1:9464");
  EXPECT_THAT(options.image_dirs, ElementsAre("/var/lib/drover/images"));
  EXPECT_EQ(options.worker, "/opt/drover/drover-vmm");
  EXPECT_EQ(options.helper, "/opt/drover/drover-helper");
  EXPECT_NE(options.user.uid, 0u);
  EXPECT_EQ(options.max_vms, 1000);
}

TEST(ParseDaemonOptionsTest, TakesEveryFlag) {
  ASSERT_OK_AND_ASSIGN(const DaemonOptions options, Parse({"--state-dir=/s",   "--listen",
                                                           "/s/a.sock",        "--insecure-listen",
                                                           "127.0.0.1:0",      "--metrics-listen=",
                                                           "--image-dir",      "/a",
                                                           "--image-dir",      "/b",
                                                           "--user",           "4242",
                                                           "--worker-uids",    "70000-70009",
                                                           "--worker",         "/w",
                                                           "--helper",         "/h",
                                                           "--cgroup-parent",  "a/b",
                                                           "--spares",         "0",
                                                           "--max-vms",        "7",
                                                           "--reserve-memory", "1G",
                                                           "--log-level",      "debug"}));
  EXPECT_EQ(options.state_dir, "/s");
  EXPECT_EQ(options.metrics_listen, "");
  EXPECT_THAT(options.image_dirs, ElementsAre("/a", "/b"));
  EXPECT_EQ(options.user.uid, 4242u);
  EXPECT_EQ(options.user.gid, 4242u);
  EXPECT_EQ(options.worker_uids, (UidRange{.first = 70000, .last = 70009}));
  EXPECT_EQ(options.cgroup_parent, "a/b");
  EXPECT_EQ(options.spares, 0u);
  EXPECT_EQ(options.max_vms, 7);
  EXPECT_EQ(options.reserve_memory_mib, 1024);
  EXPECT_EQ(options.log_level, LogLevel::kDebug);
}

TEST(ParseDaemonOptionsTest, TakesTheEnvironmentForWhatTheCommandLineLeavesOut) {
  ASSERT_OK_AND_ASSIGN(const DaemonOptions options,
                       Parse({"--spares=1"}, {{"DROVER_AGENT_SPARES", "9"},
                                              {"DROVER_AGENT_STATE_DIR", "/env"},
                                              {"DROVER_AGENT_IMAGE_DIR", "/x:/y"}}));
  EXPECT_EQ(options.spares, 1u);
  EXPECT_EQ(options.state_dir, "/env");
  EXPECT_THAT(options.image_dirs, ElementsAre("/x", "/y"));
}

TEST(ParseDaemonOptionsTest, WithholdsCapabilities) {
  ASSERT_OK_AND_ASSIGN(DaemonOptions options, Parse({"--withhold-capability", "irqfd",
                                                     "--withhold-capability=dirty_ring_bytes"}));
  EXPECT_THAT(options.withheld, ElementsAre("irqfd", "dirty_ring_bytes"));
  ASSERT_OK_AND_ASSIGN(options,
                       Parse({}, {{"DROVER_AGENT_WITHHOLD_CAPABILITY", "irqfd:userfaultfd"}}));
  EXPECT_THAT(options.withheld, ElementsAre("irqfd", "userfaultfd"));
  EXPECT_THAT(Parse({"--withhold-capability", "warp"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       ::testing::AllOf(HasSubstr("--withhold-capability"), HasSubstr("\"warp\""),
                                        HasSubstr("dirty_ring_bytes"), HasSubstr("hugetlb_2mib"))));
}

TEST(ParseDaemonOptionsTest, NamesTheFlagThatIsWrong) {
  const auto expect = [](const std::vector<std::string>& args, const std::string& text) {
    EXPECT_THAT(Parse(args), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text)));
  };
  expect({"--state-dir", "relative"}, "--state-dir is \"relative\"");
  expect({"--listen", "agent.sock"}, "--listen is \"agent.sock\"");
  expect({"--listen="}, "nobody could reach");
  expect({"--insecure-listen", "0.0.0.0:80"}, "--insecure-listen: \"0.0.0.0:80\"");
  expect({"--metrics-listen", "9464"}, "--metrics-listen: \"9464\"");
  expect({"--image-dir", "images"}, "--image-dir is \"images\"");
  expect({"--user", "no-such-account-here"}, "useradd");
  expect({"--user", "root"}, "--user: \"root\" is root");
  expect({"--user", "0"}, "--user: \"0\" is root");
  expect({"--worker-uids", "9-1"}, "--worker-uids");
  expect({"--worker-uids", "65534-65534"}, "the account");
  expect({"--user", "70001", "--worker-uids", "70000-70009"}, "one of --worker-uids");
  expect({"--cgroup-parent", "/abs"}, "--cgroup-parent");
  for (const char* parent : {"a/../..", "..", ".", "a/./b", "a//b", "a/", ""})
    expect({absl::StrCat("--cgroup-parent=", parent)}, "--cgroup-parent: \"");
  expect({"--spares", "65"}, "from 0 to 64");
  expect({"--spares", "-1"}, "from 0 to 64");
  expect({"--max-vms", "0"}, "from 1 to 100000");
  expect({"--reserve-memory", "some"}, "--reserve-memory");
  expect({"--log-level", "loud"}, "--log-level");
  expect({"--stat-dir", "/x"}, "did you mean --state-dir?");
  expect({"start"}, "no use for \"start\"");
  EXPECT_THAT(Parse({}, {{"DROVER_AGENT_MAX_VMS", "many"}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--max-vms is \"many\"")));
}

TEST(ParseDaemonOptionsTest, AsksForNothingElseWithHelp) {
  ASSERT_OK_AND_ASSIGN(const DaemonOptions options, Parse({"--help", "--spares", "99"}));
  EXPECT_TRUE(options.help);
  EXPECT_THAT(DaemonHelp(), AllOf(HasSubstr("Examples:"), HasSubstr("--worker-uids FIRST-LAST")));
}

}  // namespace
}  // namespace drover
