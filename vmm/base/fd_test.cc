#include "vmm/base/fd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::HasSubstr;

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

std::string TempPath(const char* name) { return testing::TempDir() + "/" + name; }

TEST(Fd, ClosesOnceAndMoves) {
  int raw;
  {
    ASSERT_OK_AND_ASSIGN(Fd first, OpenFile("/dev/null", O_RDONLY));
    raw = first.get();
    EXPECT_NE(fcntl(raw, F_GETFD) & FD_CLOEXEC, 0);
    Fd second = std::move(first);
    EXPECT_FALSE(first.valid());  // NOLINT(bugprone-use-after-move): that is what is tested
    EXPECT_TRUE(IsOpen(second.get()));
  }
  EXPECT_FALSE(IsOpen(raw));
}

TEST(Fd, ReleaseGivesOwnershipAway) {
  ASSERT_OK_AND_ASSIGN(Fd fd, OpenFile("/dev/null", O_RDONLY));
  const int raw = fd.Release();
  EXPECT_TRUE(IsOpen(raw));
  close(raw);
}

TEST(Fd, DuplicateIsTheSameFileAndCloseOnExec) {
  ASSERT_OK_AND_ASSIGN(Fd fd, MakeEventFd());
  ASSERT_OK_AND_ASSIGN(Fd copy, fd.Duplicate());
  EXPECT_NE(copy.get(), fd.get());
  EXPECT_NE(fcntl(copy.get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(OpenFile, NamesThePath) {
  EXPECT_THAT(OpenFile("/no/such/file", O_RDONLY),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such/file")));
}

TEST(MakeMemFd, SizeIsSealed) {
  ASSERT_OK_AND_ASSIGN(Fd fd, MakeMemFd("test", 8192));
  struct stat info;
  ASSERT_EQ(fstat(fd.get(), &info), 0);
  EXPECT_EQ(info.st_size, 8192);
  EXPECT_NE(ftruncate(fd.get(), 4096), 0);
  EXPECT_NE(ftruncate(fd.get(), 16384), 0);
}

TEST(ReplaceFile, IsReadBackAndLeavesNothingBeside) {
  const std::string path = TempPath("replaced");
  ASSERT_OK(ReplaceFile(path, "one", 0600));
  ASSERT_OK(ReplaceFile(path, "two", 0600));
  EXPECT_THAT(ReadSmallFile(path.c_str()), IsOkAndHolds("two"));
  EXPECT_NE(access((path + ".new").c_str(), F_OK), 0);
  EXPECT_THAT(ReplaceFile("/no/such/folder/x", "x", 0600), StatusIs(absl::StatusCode::kNotFound));
}

TEST(ReadSmallFile, RefusesALongOne) {
  const std::string path = TempPath("long");
  ASSERT_OK(ReplaceFile(path, std::string(5000, 'x'), 0600));
  EXPECT_THAT(ReadSmallFile(path.c_str(), 4096),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr(path)));
  EXPECT_OK(ReadSmallFile(path.c_str(), 5000));
}

TEST(WriteExisting, DoesNotCreate) {
  EXPECT_THAT(WriteExisting(TempPath("never-made").c_str(), "x"),
              StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace drover
