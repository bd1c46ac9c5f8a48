#include "agent/jail/open_beneath.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>

#include "vmm/base/status_matchers.h"
#include "vmm/base/unix_channel.h"

namespace drover {
namespace {

class OpenBeneathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/drover-open-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    base_ = name;
    images_ = base_ + "/images";
    ASSERT_EQ(mkdir(images_.c_str(), 0755), 0);
    ASSERT_OK(ReplaceFile(images_ + "/kernel", "kernel", 0644));
    ASSERT_OK(ReplaceFile(base_ + "/secret", "secret", 0644));
  }
  void TearDown() override { std::filesystem::remove_all(base_); }

  absl::StatusOr<std::string> Read(const std::string& path) {
    ASSIGN_OR_RETURN(const ImageDirectories directories, ImageDirectories::Create({images_ + "/"}));
    ASSIGN_OR_RETURN(const Fd file, directories.Open(path));
    return ReadSmallFd(file.get());
  }

  std::string ReasonFor(const std::string& path) {
    const auto content = Read(path);
    return content.ok() ? "OK" : ReasonOf(content.status());
  }

  void Link(const std::string& target, const std::string& name) {
    ASSERT_EQ(symlink(target.c_str(), (images_ + "/" + name).c_str()), 0);
  }

  std::string base_;
  std::string images_;
};

TEST_F(OpenBeneathTest, OpensAFile) {
  EXPECT_THAT(Read(images_ + "/kernel"), IsOkAndHolds("kernel"));
  EXPECT_THAT(Read(images_ + "//./kernel"), IsOkAndHolds("kernel"));
}

TEST_F(OpenBeneathTest, ALinkThatStaysInsideIsFollowed) {
  Link("kernel", "latest");
  ASSERT_EQ(mkdir((images_ + "/sub").c_str(), 0755), 0);
  Link("../kernel", "sub/up");
  EXPECT_THAT(Read(images_ + "/latest"), IsOkAndHolds("kernel"));
  EXPECT_THAT(Read(images_ + "/sub/up"), IsOkAndHolds("kernel"));
  EXPECT_THAT(Read(images_ + "/sub/../kernel"), IsOkAndHolds("kernel"));
}

TEST_F(OpenBeneathTest, NothingLeadsOut) {
  Link("../secret", "relative");
  Link(base_ + "/secret", "absolute");
  Link("..", "parent");
  Link("loop", "loop");
  Link("/proc/self/root", "magic");
  for (const char* name : {"relative", "absolute", "parent/secret", "loop", "magic/etc/passwd",
                           "../secret", "../images/kernel"})
    EXPECT_EQ(ReasonFor(images_ + "/" + name), "FILE_NOT_ALLOWED") << name;
}

TEST_F(OpenBeneathTest, OutsideIsRefusedWhateverIsThere) {
  for (const std::string& path :
       {base_ + "/secret", base_ + "/nothing", std::string("kernel"), std::string(""), images_,
        images_ + "kernel", images_ + "x/kernel", std::string("/"), std::string(5000, 'a'),
        images_ + "/" + std::string(5000, 'a'), images_ + std::string("/kernel\0x", 9)})
    EXPECT_EQ(ReasonFor(path), "FILE_NOT_ALLOWED") << path;
}

TEST_F(OpenBeneathTest, TellsWhatIsWrong) {
  ASSERT_OK(ReplaceFile(images_ + "/empty", "", 0644));
  ASSERT_EQ(mkfifo((images_ + "/fifo").c_str(), 0666), 0);
  ASSERT_OK_AND_ASSIGN(const Fd socket, ListenUnix(images_ + "/socket", 0666));
  EXPECT_EQ(ReasonFor(images_ + "/nothing"), "FILE_NOT_FOUND");
  EXPECT_EQ(ReasonFor(images_ + "/kernel/x"), "FILE_NOT_FOUND");
  EXPECT_EQ(ReasonFor(images_ + "/empty"), "FILE_EMPTY");
  EXPECT_EQ(ReasonFor(images_ + "/"), "FILE_NOT_REGULAR");
  EXPECT_EQ(ReasonFor(images_ + "/fifo"), "FILE_NOT_REGULAR");
  EXPECT_EQ(ReasonFor(images_ + "/socket"), "FILE_NOT_REGULAR");
  EXPECT_THAT(Read(images_ + "/nothing"),
              StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("nothing")));
}

TEST_F(OpenBeneathTest, ADeviceIsNotOpened) {
  if (mknod((images_ + "/device").c_str(), S_IFCHR | 0666, makedev(1, 5)) != 0)
    GTEST_SKIP() << "making a device node needs root";
  EXPECT_EQ(ReasonFor(images_ + "/device"), "FILE_NOT_REGULAR");
}

TEST_F(OpenBeneathTest, AnUnreadableFile) {
  if (geteuid() == 0) GTEST_SKIP() << "root reads every file";
  ASSERT_OK(ReplaceFile(images_ + "/closed", "x", 0000));
  EXPECT_EQ(ReasonFor(images_ + "/closed"), "FILE_NOT_READABLE");
}

TEST_F(OpenBeneathTest, TheInnermostDirectoryCounts) {
  ASSERT_EQ(mkdir((images_ + "/sub").c_str(), 0755), 0);
  Link("../kernel", "sub/up");
  ASSERT_OK_AND_ASSIGN(const ImageDirectories both,
                       ImageDirectories::Create({images_, images_ + "/sub"}));
  EXPECT_EQ(ReasonOf(both.Open(images_ + "/sub/up").status()), "FILE_NOT_ALLOWED");
  EXPECT_OK(both.Open(images_ + "/kernel"));
}

TEST_F(OpenBeneathTest, DirectoriesAreAbsolute) {
  EXPECT_THAT(ImageDirectories::Create({"images"}), StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK_AND_ASSIGN(const ImageDirectories all, ImageDirectories::Create({"/"}));
  EXPECT_OK(all.Open(base_ + "/secret"));
}

}  // namespace
}  // namespace drover
