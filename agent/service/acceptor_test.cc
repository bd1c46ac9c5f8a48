#include "agent/service/acceptor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "vmm/base/mutex.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

Fd Connect(const std::string& path) {
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path, path.data(), path.size());
  const auto* raw = reinterpret_cast<const struct sockaddr*>(&address);
  if (connect(fd.get(), raw, sizeof(address)) != 0) return Fd();
  return fd;
}

// What came: a byte, or '-' where the other side hung up.
char ReadByte(const Fd& fd) {
  char byte = '-';
  return read(fd.get(), &byte, 1) == 1 ? byte : '-';
}

class AcceptorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    path_ = directory_ + "/socket";
    auto acceptor = Acceptor::ListenUnix(path_);
    ASSERT_THAT(acceptor, IsOk());
    acceptor_ = *std::move(acceptor);
  }
  void TearDown() override {
    acceptor_.reset();
    EXPECT_EQ(rmdir(directory_.c_str()), 0);
  }
  // Greets each connection and keeps it.
  void Start() {
    acceptor_->Start(limit_, [this](Fd connection) {
      EXPECT_EQ(write(connection.get(), "h", 1), 1);
      MutexLock lock(&mutex_);
      kept_.push_back(std::move(connection));
    });
  }
  void LetGo() {
    MutexLock lock(&mutex_);
    kept_.clear();
  }

  std::string directory_ = "/tmp/acceptor-XXXXXX";
  std::string path_;
  std::unique_ptr<Acceptor> acceptor_;
  std::shared_ptr<ConnectionLimit> limit_ = std::make_shared<ConnectionLimit>(1000);
  Mutex mutex_;
  std::vector<Fd> kept_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(AcceptorTest, HandsOnConnections) {
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0660u);
  Start();
  const Fd one = Connect(path_);
  const Fd two = Connect(path_);
  EXPECT_EQ(ReadByte(one), 'h');
  EXPECT_EQ(ReadByte(two), 'h');
}

TEST_F(AcceptorTest, StopsWithItsSocket) {
  Start();
  acceptor_->Stop();
  EXPECT_FALSE(Connect(path_).valid());
  acceptor_->Stop();
}

TEST_F(AcceptorTest, KeepsAReserveAndServesAgainAfterwards) {
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const struct rlimit few = {.rlim_cur = 200, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  Start();
  std::vector<Fd> clients;
  int refused = 0;
  while (refused == 0 && clients.size() < 200) {
    clients.push_back(Connect(path_));
    ASSERT_TRUE(clients.back().valid()) << strerror(errno);
    if (ReadByte(clients.back()) == '-') ++refused;
  }
  EXPECT_EQ(refused, 1);
  const Fd of_the_reserve(dup(0));
  EXPECT_TRUE(of_the_reserve.valid());
  clients.clear();
  LetGo();
  EXPECT_EQ(ReadByte(Connect(path_)), 'h');
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST_F(AcceptorTest, OutlivesTheEndOfAllDescriptors) {
  Start();
  std::vector<Fd> clients;
  for (int i = 0; i < 4; ++i) clients.push_back(Fd(socket(AF_UNIX, SOCK_STREAM, 0)));
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const struct rlimit none = {.rlim_cur = 3, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path, path_.data(), path_.size());
  EXPECT_EQ(
      connect(clients[0].get(), reinterpret_cast<struct sockaddr*>(&address), sizeof(address)), 0);
  usleep(20'000);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(ReadByte(clients[0]), 'h');
  EXPECT_EQ(ReadByte(Connect(path_)), 'h');
}

TEST_F(AcceptorTest, RefusesWhatIsBeyondTheLimit) {
  limit_ = std::make_shared<ConnectionLimit>(2);
  Start();
  const Fd one = Connect(path_);
  const Fd two = Connect(path_);
  EXPECT_EQ(ReadByte(one), 'h');
  EXPECT_EQ(ReadByte(two), 'h');
  for (int i = 0; i < 3; ++i) EXPECT_EQ(ReadByte(Connect(path_)), '-');
  LetGo();
  EXPECT_EQ(ReadByte(Connect(path_)), 'h');
}

TEST(AcceptorTcpTest, ListensAndInherits) {
  for (const char* address : {"127.0.0.1:0", "[::1]:0"}) {
    auto acceptor = Acceptor::ListenTcp(address);
    if (!acceptor.ok() && std::string(address) == "[::1]:0") continue;  // a host without IPv6
    ASSERT_THAT(acceptor, IsOk());
    EXPECT_GT((*acceptor)->port(), 0);
    const std::string host(address, strlen(address) - 1);
    EXPECT_FALSE(Acceptor::ListenTcp(host + std::to_string((*acceptor)->port())).ok());
  }
  for (const char* address : {"localhost:1", "127.0.0.1", "127.0.0.1:70000"})
    EXPECT_THAT(Acceptor::ListenTcp(address), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(AcceptorPathTest, RefusesAPathThatDoesNotFit) {
  EXPECT_THAT(Acceptor::ListenUnix("/" + std::string(200, 'x')),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace drover
