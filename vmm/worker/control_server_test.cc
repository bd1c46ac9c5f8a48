#include "vmm/worker/control_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "proto/worker/v1/worker.pb.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

namespace pb = worker::v1;

class ControlServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/drover-control-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
    auto loop = EventLoop::Create();
    ASSERT_THAT(loop, IsOk());
    loop_ = *std::move(loop);
    auto listener = ListenUnix(Path(), 0600);
    ASSERT_THAT(listener, IsOk());
    auto server = ControlServer::Create(
        loop_.get(), *std::move(listener),
        [this](const ControlCall& call, ControlServer::Responder respond) {
          calls_.push_back(call);
          for (const MachineState state : changes_) server_->SendEvent({.state = state});
          if (deferred_) return waiting_.push_back(std::move(respond));
          respond({.status = {}, .body = MachineStatus(), .descriptor = {}});
        },
        [this] { ++closed_; });
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
  }
  void TearDown() override {
    server_.reset();
    unlink(Path().c_str());
    rmdir(directory_.c_str());
  }

  std::string Path() const { return directory_ + "/control.sock"; }
  void Turn() {
    for (int i = 0; i < 5; ++i) loop_->RunOnce(std::chrono::milliseconds(0));
  }
  UnixChannel Connect() {
    auto channel = UnixChannel::Connect(Path());
    EXPECT_THAT(channel, IsOk());
    Turn();
    return *std::move(channel);
  }
  void Send(UnixChannel& channel, uint64_t sequence) {
    pb::WorkerRequest request;
    request.set_sequence(sequence);
    request.mutable_pause();
    ASSERT_THAT(channel.Send(request.SerializeAsString()), IsOk());
    Turn();
  }
  // The sequence of the next message; -1: none waits, -2: closed.
  int64_t Receive(UnixChannel& channel) {
    Turn();
    const auto message = channel.Receive(std::chrono::milliseconds(0));
    if (absl::IsDeadlineExceeded(message.status())) return -1;
    if (!message.ok()) return -2;
    pb::WorkerResponse response;
    EXPECT_TRUE(response.ParseFromString(message->bytes));
    return static_cast<int64_t>(response.sequence());
  }

  std::string directory_;
  std::unique_ptr<EventLoop> loop_;
  std::vector<ControlCall> calls_;
  std::vector<ControlServer::Responder> waiting_;
  std::vector<MachineState> changes_;  // during each call
  bool deferred_ = false;
  int closed_ = 0;
  std::unique_ptr<ControlServer> server_;
};

TEST_F(ControlServerTest, AnswersEachRequest) {
  UnixChannel channel = Connect();
  for (uint64_t sequence = 1; sequence < 5; ++sequence) {
    Send(channel, sequence);
    EXPECT_EQ(Receive(channel), static_cast<int64_t>(sequence));
  }
  EXPECT_EQ(calls_.size(), 4u);
  EXPECT_TRUE(std::holds_alternative<PauseCall>(calls_[0]));
}

TEST_F(ControlServerTest, NewestConnectionWins) {
  UnixChannel older = Connect();
  UnixChannel newer = Connect();
  EXPECT_EQ(Receive(older), -2);
  Send(newer, 1);
  EXPECT_EQ(Receive(newer), 1);
  EXPECT_EQ(closed_, 0) << "the agent is still there";
}

TEST_F(ControlServerTest, OneRequestAtATime) {
  deferred_ = true;
  UnixChannel channel = Connect();
  Send(channel, 1);
  Send(channel, 2);
  EXPECT_EQ(calls_.size(), 1u);
  server_->SendEvent({});
  EXPECT_EQ(Receive(channel), 0) << "events do not wait";
  waiting_[0]({.status = {}, .body = {}, .descriptor = {}});
  EXPECT_EQ(Receive(channel), 1);
  EXPECT_EQ(calls_.size(), 2u);
  waiting_[0]({.status = {}, .body = {}, .descriptor = {}});
  EXPECT_EQ(Receive(channel), -1) << "answered twice";
}

TEST_F(ControlServerTest, AnAnswerTellsWhatItsCallChanged) {
  changes_ = {MachineState::kStarting, MachineState::kRunning};
  UnixChannel channel = Connect();
  Send(channel, 1);
  EXPECT_EQ(Receive(channel), 1);
  EXPECT_EQ(Receive(channel), -1);
  deferred_ = true;
  Send(channel, 2);
  EXPECT_EQ(Receive(channel), 0) << "its answer comes later";
  EXPECT_EQ(Receive(channel), -1) << "the last change only";
  changes_.clear();
  waiting_[0]({.status = {}, .body = {}, .descriptor = {}});
  EXPECT_EQ(Receive(channel), 2);
}

TEST_F(ControlServerTest, LateAnswersGoNowhere) {
  deferred_ = true;
  UnixChannel older = Connect();
  Send(older, 1);
  UnixChannel newer = Connect();
  waiting_[0]({.status = {}, .body = {}, .descriptor = {}});
  EXPECT_EQ(Receive(newer), -1);
  Send(newer, 1);
  EXPECT_EQ(calls_.size(), 2u);
  server_.reset();
  waiting_[1]({.status = {}, .body = {}, .descriptor = {}});
}

TEST_F(ControlServerTest, HangUpWhileARequestWaits) {
  deferred_ = true;
  UnixChannel channel = Connect();
  Send(channel, 1);
  channel.Close();
  Turn();
  EXPECT_EQ(closed_, 1);
  EXPECT_FALSE(server_->connected());
}

TEST_F(ControlServerTest, NonsenseClosesTheConnection) {
  for (const std::string& bytes :
       {std::string("\xff\xff\xff"), std::string(1, '\0'), std::string("\x0a"), std::string()}) {
    UnixChannel channel = Connect();
    ASSERT_THAT(channel.Send(bytes), IsOk());
    EXPECT_EQ(Receive(channel), -2);
  }
  EXPECT_EQ(calls_.size(), 0u);
  UnixChannel channel = Connect();
  Send(channel, 1);
  EXPECT_EQ(Receive(channel), 1);
}

TEST_F(ControlServerTest, DescriptorsFromThePeerAreClosed) {
  UnixChannel channel = Connect();
  int pipe_ends[2];
  ASSERT_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
  pb::WorkerRequest request;
  request.set_sequence(1);
  ASSERT_THAT(channel.Send(request.SerializeAsString(), {pipe_ends[1]}), IsOk());
  close(pipe_ends[1]);
  EXPECT_EQ(Receive(channel), 1);
  char byte;
  EXPECT_EQ(read(pipe_ends[0], &byte, 1), 0) << "the write end is open somewhere";
  close(pipe_ends[0]);
}

TEST_F(ControlServerTest, PeerThatDoesNotReadLosesItsConnection) {
  UnixChannel channel = Connect();
  for (int i = 0; i < 100000 && server_->connected(); ++i) server_->SendEvent({});
  EXPECT_FALSE(server_->connected());
  EXPECT_EQ(closed_, 1);
}

}  // namespace
}  // namespace drover
