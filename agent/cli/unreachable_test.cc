#include "agent/cli/unreachable.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

#include "vmm/base/fd.h"

namespace drover {
namespace {

using ::testing::HasSubstr;

class UnreachableTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    path_ = directory_ + "/s";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  struct sockaddr_un Address() const {
    struct sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path_.data(), path_.size());
    return address;
  }
  Fd Listen(int backlog) {
    Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const struct sockaddr_un address = Address();
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof(address)),
              0);
    EXPECT_EQ(listen(fd.get(), backlog), 0);
    return fd;
  }
  std::string What() { return ExplainUnreachable("unix:" + path_).what; }

  std::string directory_ = "/tmp/drover-unreachable-XXXXXX";
  std::string path_;
};

TEST_F(UnreachableTest, NobodyIsThere) {
  EXPECT_THAT(What(), HasSubstr("no socket"));
  Listen(1);
  EXPECT_THAT(What(), HasSubstr("has ended"));
}

TEST_F(UnreachableTest, AnAgentThatAcceptsNothing) {
  const Fd listener = Listen(0);
  const struct sockaddr_un address = Address();
  std::vector<Fd> waiting;
  for (int i = 0; i < 8; ++i) {
    waiting.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    (void)connect(waiting.back().get(), reinterpret_cast<const struct sockaddr*>(&address),
                  sizeof(address));
  }
  EXPECT_THAT(What(), HasSubstr("hangs"));
}

TEST_F(UnreachableTest, AnAgentThatHungUp) {
  const Fd listener = Listen(8);
  EXPECT_THAT(What(), HasSubstr("ended the connection"));
}

TEST(UnreachableTcpTest, NamesTheAddress) {
  const Unreachable told = ExplainUnreachable("127.0.0.1:1");
  EXPECT_THAT(told.what, HasSubstr("127.0.0.1:1"));
  EXPECT_THAT(told.hint, HasSubstr("--address"));
}

}  // namespace
}  // namespace drover
