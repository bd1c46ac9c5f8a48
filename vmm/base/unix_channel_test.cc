#include "vmm/base/unix_channel.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using std::chrono::milliseconds;

class UnixChannelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(auto pair, UnixChannel::Pair());
    a_ = std::move(pair.first);
    b_ = std::move(pair.second);
  }

  UnixChannel a_, b_;
};

TEST_F(UnixChannelTest, KeepsMessagesWholeAndPassesDescriptors) {
  ASSERT_OK_AND_ASSIGN(Fd file, MakeMemFd("passed", 4096));
  ASSERT_OK(a_.Send("one", {file.get()}));
  ASSERT_OK(a_.Send("two"));
  ASSERT_OK_AND_ASSIGN(ChannelMessage first, b_.Receive());
  ASSERT_OK_AND_ASSIGN(ChannelMessage second, b_.Receive());
  EXPECT_EQ(first.bytes, "one");
  ASSERT_EQ(first.fds.size(), 1u);
  EXPECT_NE(fcntl(first.fds[0].get(), F_GETFD) & FD_CLOEXEC, 0);
  struct stat info;
  ASSERT_EQ(fstat(first.fds[0].get(), &info), 0);
  EXPECT_EQ(info.st_size, 4096);
  EXPECT_EQ(second.bytes, "two");
  EXPECT_TRUE(second.fds.empty());
}

TEST_F(UnixChannelTest, TheEndAndTheTimeLimitAreToldApart) {
  EXPECT_THAT(b_.Receive(milliseconds(0)), StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_THAT(b_.Receive(milliseconds(5)), StatusIs(absl::StatusCode::kDeadlineExceeded));
  a_.Close();
  EXPECT_THAT(b_.Receive(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(b_.Send("x"), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(UnixChannelTest, LimitsAreRefusedOnSendingAndOnReceiving) {
  EXPECT_THAT(a_.Send(std::string(UnixChannel::kMaxMessageBytes + 1, 'x')),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(a_.Send("", std::vector<int>(UnixChannel::kMaxFds + 1, 0)),
              StatusIs(absl::StatusCode::kResourceExhausted));
  const std::string large(UnixChannel::kMaxMessageBytes + 1, 'x');
  ASSERT_EQ(send(a_.fd(), large.data(), large.size(), 0), static_cast<ssize_t>(large.size()));
  EXPECT_THAT(b_.Receive(), StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK(a_.Send("still works"));
  EXPECT_OK(b_.Receive());
}

TEST_F(UnixChannelTest, AFullQueueDoesNotBlockANonBlockingSender) {
  ASSERT_OK(a_.SetNonBlocking());
  absl::Status status;
  for (int i = 0; i < 10000 && status.ok(); ++i) status = a_.Send(std::string(1000, 'x'));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(ListenUnix, AcceptsOverPathsOfAnyLength) {
  std::string folder = testing::TempDir();
  for (int i = 0; i < 5; ++i) {
    folder += "/" + std::string(40, static_cast<char>('a' + i));
    mkdir(folder.c_str(), 0700);
  }
  for (const std::string& path : {testing::TempDir() + "/s", folder + "/socket"}) {
    ASSERT_OK_AND_ASSIGN(Fd listener, ListenUnix(path, 0660));
    ASSERT_OK_AND_ASSIGN(UnixChannel client, UnixChannel::Connect(path));
    ASSERT_OK_AND_ASSIGN(UnixChannel server, AcceptUnix(listener.get()));
    ASSERT_OK(client.Send("hello"));
    EXPECT_OK(server.Receive());
    struct stat info;
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0660u);
  }
}

TEST(ListenUnix, ConnectNamesThePathThatIsNotThere) {
  EXPECT_THAT(UnixChannel::Connect("/no/such/socket"),
              StatusIs(absl::StatusCode::kNotFound, ::testing::HasSubstr("/no/such/socket")));
}

}  // namespace
}  // namespace drover
