#include "vmm/worker/console.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

std::span<const uint8_t> Bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

class ConsoleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loop = EventLoop::Create();
    ASSERT_THAT(loop, IsOk());
    loop_ = *std::move(loop);
    console_ = std::make_unique<Console>(loop_.get());
  }
  void TearDown() override { console_.reset(); }

  // Turns the loop until nothing is ready.
  void Turn() {
    for (int i = 0; i < 5; ++i) loop_->RunOnce(std::chrono::milliseconds(0));
  }
  // What waits in the stream; "<eof>" at its end.
  std::string Read(const Fd& stream) {
    std::string text;
    for (;;) {
      Turn();
      char buffer[8192];
      const ssize_t n = recv(stream.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
      if (n < 0) return text;
      if (n == 0) return text + "<eof>";
      text.append(buffer, static_cast<size_t>(n));
    }
  }
  Console::Attached Attach() {
    auto attached = console_->Attach();
    EXPECT_THAT(attached, IsOk());
    return *std::move(attached);
  }

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Console> console_;
};

TEST_F(ConsoleTest, KeptThenLive) {
  console_->Append(Bytes("kept "));
  const Console::Attached attached = Attach();
  EXPECT_EQ(attached.lost_bytes, 0u);
  console_->Append(Bytes("live"));
  EXPECT_EQ(Read(attached.stream), "kept live");
  EXPECT_TRUE(console_->Flush());
}

TEST_F(ConsoleTest, KeepsTheLast64KiB) {
  std::string all;
  for (int i = 0; all.size() < 100000; ++i) all += std::to_string(i) + ",";
  for (size_t at = 0; at < all.size(); at += 1000) console_->Append(Bytes(all.substr(at, 1000)));
  const Console::Attached attached = Attach();
  EXPECT_EQ(attached.lost_bytes, all.size() - ConsoleRing::kSize);
  EXPECT_EQ(Read(attached.stream), all.substr(all.size() - ConsoleRing::kSize));
}

TEST_F(ConsoleTest, OneHugeAppend) {
  const std::string all(3 * ConsoleRing::kSize + 7, 'x');
  console_->Append(Bytes(all));
  const Console::Attached attached = Attach();
  EXPECT_EQ(attached.lost_bytes, 2 * ConsoleRing::kSize + 7);
  EXPECT_EQ(Read(attached.stream).size(), ConsoleRing::kSize);
}

TEST_F(ConsoleTest, SlowReaderIsCutOffAndOthersAreNot) {
  const Console::Attached slow = Attach();
  const Console::Attached quick = Attach();
  const std::string chunk(4096, 'y');
  size_t got = 0;
  for (int i = 0; i < 1000; ++i) {
    console_->Append(Bytes(chunk));
    got += Read(quick.stream).size();
  }
  EXPECT_EQ(got, chunk.size() * 1000);
  const std::string rest = Read(slow.stream);
  EXPECT_TRUE(rest.ends_with("<eof>")) << rest.size();
  EXPECT_LT(rest.size(), chunk.size() * 1000);
  EXPECT_EQ(console_->attachments(), 1u);
}

TEST_F(ConsoleTest, FullSocketGoesOnLater) {
  const Console::Attached attached = Attach();
  int small = 1;
  ASSERT_EQ(setsockopt(attached.stream.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
  std::string sent;
  std::string got;
  // Fill the socket, less than the ring beyond it.
  while (console_->Flush() && sent.size() < (8 << 20)) {
    const std::string part(1000, static_cast<char>('a' + sent.size() / 1000 % 26));
    sent += part;
    console_->Append(Bytes(part));
  }
  EXPECT_FALSE(console_->Flush());
  for (int i = 0; i < 1000 && got.size() < sent.size(); ++i) got += Read(attached.stream);
  EXPECT_EQ(got, sent);
  EXPECT_TRUE(console_->Flush());
}

TEST_F(ConsoleTest, AtMostSixteen) {
  std::vector<Console::Attached> attached;
  for (size_t i = 0; i < Console::kMaxAttachments; ++i) attached.push_back(Attach());
  const auto refused = console_->Attach();
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted, ::testing::_));
  EXPECT_EQ(ReasonOf(refused.status()), "CONSOLE_LIMIT");
  attached.pop_back();
  Turn();
  EXPECT_THAT(console_->Attach(), IsOk());
}

TEST_F(ConsoleTest, InputWithBackpressure) {
  std::string taken;
  size_t room = 3;
  console_->SetInput([&](std::span<const uint8_t> bytes) {
    const size_t n = std::min(room, bytes.size());
    taken.append(reinterpret_cast<const char*>(bytes.data()), n);
    room -= n;
    return n;
  });
  const Console::Attached attached = Attach();
  ASSERT_EQ(write(attached.stream.get(), "hello", 5), 5);
  Turn();
  EXPECT_EQ(taken, "hel");
  ASSERT_EQ(write(attached.stream.get(), " world", 6), 6);
  Turn();
  EXPECT_EQ(taken, "hel");
  room = 100;
  console_->InputReady();
  Turn();
  EXPECT_EQ(taken, "hello world");
}

TEST_F(ConsoleTest, HalfClosedReaderStillReads) {
  const Console::Attached attached = Attach();
  ASSERT_EQ(shutdown(attached.stream.get(), SHUT_WR), 0);
  Turn();
  console_->Append(Bytes("more"));
  EXPECT_EQ(Read(attached.stream), "more");
  EXPECT_EQ(console_->attachments(), 1u);
}

TEST_F(ConsoleTest, AppendFromManyThreads) {
  const Console::Attached attached = Attach();
  std::vector<std::thread> writers;
  for (int i = 0; i < 4; ++i)
    writers.emplace_back([&] {
      for (int n = 0; n < 1000; ++n) console_->Append(Bytes("z"));
    });
  size_t got = 0;
  for (int i = 0; i < 100000 && got < 4000; ++i) got += Read(attached.stream).size();
  for (std::thread& writer : writers) writer.join();
  got += Read(attached.stream).size();
  EXPECT_EQ(got, 4000u);
}

}  // namespace
}  // namespace drover
