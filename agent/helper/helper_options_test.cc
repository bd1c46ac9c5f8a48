#include "agent/helper/helper_options.h"

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::HasSubstr;

TEST(HelperOptionsTest, SurviveTheCommandLine) {
  HelperOptions options;
  options.state_dir = "/var/lib/a b=c";
  options.worker = "/usr/bin/drover-vmm";
  options.image_directories = {"/images", "/more images"};
  options.uids = {1000, 2000};
  options.cgroup_parent = "a/b";
  options.cgroup_root = "/cgroup";
  options.kvm_device = "/dev/other";
  options.userfaultfd_device = "/dev/another";
  options.agent_gid = 7;
  options.spares = 0;
  options.lock_fd = 4;
  ASSERT_OK_AND_ASSIGN(const HelperOptions same,
                       ParseHelperArguments(FormatHelperArguments(options)));
  EXPECT_EQ(same.state_dir, options.state_dir);
  EXPECT_EQ(same.worker, options.worker);
  EXPECT_EQ(same.image_directories, options.image_directories);
  EXPECT_EQ(same.uids, options.uids);
  EXPECT_EQ(same.cgroup_parent, options.cgroup_parent);
  EXPECT_EQ(same.cgroup_root, options.cgroup_root);
  EXPECT_EQ(same.kvm_device, options.kvm_device);
  EXPECT_EQ(same.userfaultfd_device, options.userfaultfd_device);
  EXPECT_EQ(same.agent_gid, options.agent_gid);
  EXPECT_EQ(same.spares, options.spares);
  EXPECT_EQ(same.lock_fd, options.lock_fd);
}

TEST(HelperOptionsTest, NameWhatIsWrong) {
  const auto error = [](const std::string& argument) {
    const auto options = ParseHelperArguments({"--state-dir=/s", "--worker=/w", argument});
    EXPECT_THAT(options, StatusIs(absl::StatusCode::kInvalidArgument)) << argument;
    return std::string(options.status().message());
  };
  EXPECT_THAT(error("--spares=65"), HasSubstr("--spares=65"));
  EXPECT_THAT(error("--spares=-1"), HasSubstr("--spares=-1"));
  EXPECT_THAT(error("--uid-range=0-9"), HasSubstr("--uid-range=0-9"));
  EXPECT_THAT(error("--nothing=1"), HasSubstr("--nothing=1"));
  EXPECT_THAT(error("--spares"), HasSubstr("--spares"));
  EXPECT_THAT(error(""), HasSubstr("unknown argument"));
  EXPECT_THAT(ParseHelperArguments({"--worker=/w"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--state-dir")));
  EXPECT_THAT(ParseHelperArguments({"--state-dir=/s"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--worker")));
}

}  // namespace
}  // namespace drover
