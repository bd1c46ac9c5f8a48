#include "agent/service/listen_address.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "vmm/base/fd.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::HasSubstr;

TEST(CheckLoopbackAddressTest, AcceptsLoopback) {
  for (const char* address : {"127.0.0.1:8080", "127.1.2.3:0", "[::1]:65535"})
    EXPECT_OK(CheckLoopbackAddress(address)) << address;
}

TEST(CheckLoopbackAddressTest, RefusesEverythingElse) {
  for (const char* address : {"", ":80", "0.0.0.0:80", "10.0.0.1:80", "[::]:80", "localhost:80",
                              "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1",
                              "127.0.0.1: 1", "127.0.0.1.evil.com:80", "128.0.0.1:80", "::1:80"})
    EXPECT_THAT(CheckLoopbackAddress(address), StatusIs(absl::StatusCode::kInvalidArgument))
        << address;
}

class ClaimUnixSocketPathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/drover-sock-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    directory_ = path;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  Fd Listen(const std::string& path) {
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path.c_str());
    EXPECT_EQ(bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(socket.get(), 4), 0);
    return socket;
  }

  std::string directory_;
};

TEST_F(ClaimUnixSocketPathTest, AcceptsAFreePath) {
  EXPECT_OK(ClaimUnixSocketPath(directory_ + "/s"));
}

TEST_F(ClaimUnixSocketPathTest, RefusesASocketInUseAndReplacesAStaleOne) {
  const std::string path = directory_ + "/s";
  Fd listener = Listen(path);
  EXPECT_THAT(ClaimUnixSocketPath(path),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("another process listens")));
  EXPECT_TRUE(std::filesystem::exists(path));
  listener.Reset();
  EXPECT_OK(ClaimUnixSocketPath(path));
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(ClaimUnixSocketPathTest, NeverRemovesAnythingElse) {
  const std::string path = directory_ + "/file";
  std::ofstream(path) << "precious";
  EXPECT_THAT(ClaimUnixSocketPath(path), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST_F(ClaimUnixSocketPathTest, RefusesPathsThatNoSocketCanHave) {
  EXPECT_THAT(ClaimUnixSocketPath("relative"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ClaimUnixSocketPath("/" + std::string(108, 'a')),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 107")));
}

}  // namespace
}  // namespace drover
