#include "vmm/worker/file_limit.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "vmm/base/fd.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

// Writes until a write fails; its errno.
int Fill(int fd) {
  std::array<char, 4096> block = {};
  for (int i = 0; i < 1000; ++i)
    if (write(fd, block.data(), block.size()) < 0) return errno;
  return 0;
}

TEST(FileLimitTest, NoFileGrowsBeyond) {
  std::string path = ::testing::TempDir() + "/file-limit-XXXXXX";
  const Fd file(mkstemp(path.data()));
  ASSERT_TRUE(file.valid());
  unlink(path.c_str());
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    if (!LimitFileSize().ok()) _exit(1);
    _exit(Fill(file.get()) == EFBIG ? 0 : 2);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  struct stat info;
  ASSERT_EQ(fstat(file.get(), &info), 0);
  EXPECT_EQ(static_cast<uint64_t>(info.st_size), kMaxFileBytes);
}

// What was made before keeps its size and can be written, as guest memory is.
TEST(FileLimitTest, LargerFilesOfBeforeStay) {
  const auto memory = MakeMemFd("memory", 4 * kMaxFileBytes);
  ASSERT_THAT(memory, IsOk());
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    if (!LimitFileSize().ok()) _exit(1);
    _exit(MakeMemFd("more", 2 * kMaxFileBytes).ok() ? 2 : 0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  struct stat info;
  ASSERT_EQ(fstat(memory->get(), &info), 0);
  EXPECT_EQ(static_cast<uint64_t>(info.st_size), 4 * kMaxFileBytes);
}

}  // namespace
}  // namespace drover
