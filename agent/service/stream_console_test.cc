#include "agent/service/stream_console.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "agent/service/rpc_error.h"
#include "agent/service/service_harness.h"
#include "proto/drover/v1/vm.grpc.pb.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

// One StreamConsole call from the client's side.
class Client {
 public:
  explicit Client(ServiceHarness* harness) : stub_(v1::VmService::NewStub(harness->NewChannel())) {
    SetTestDeadline(&context_);
    stream_ = stub_->StreamConsole(&context_);
  }

  bool Send(const std::string& vm_id, const std::string& input = "") {
    v1::StreamConsoleRequest request;
    request.set_vm_id(vm_id);
    request.set_input(input);
    return stream_->Write(request);
  }
  void CloseInput() { stream_->WritesDone(); }

  // Reads until `bytes` bytes came, or the stream ended.
  std::string Receive(size_t bytes) {
    std::string text;
    v1::StreamConsoleResponse response;
    while (text.size() < bytes && stream_->Read(&response)) {
      text += response.output();
      lost_ += response.lost_bytes();
    }
    return text;
  }

  // Reads what is left; the call's end.
  RpcError Finish() {
    v1::StreamConsoleResponse response;
    while (stream_->Read(&response)) lost_ += response.lost_bytes();
    return DecodeRpcError(stream_->Finish());
  }

  void Cancel() { context_.TryCancel(); }
  int64_t lost() const { return lost_; }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<v1::VmService::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::StreamConsoleRequest, v1::StreamConsoleResponse>>
      stream_;
  int64_t lost_ = 0;
};

std::string ReadExactly(const Fd& fd, size_t bytes) {
  std::string text(bytes, '\0');
  const ssize_t n = recv(fd.get(), text.data(), bytes, MSG_WAITALL);
  text.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return text;
}

void AwaitNoStreams(const ConsoleStreams& consoles) {
  for (int i = 0; i < 6000 && consoles.active() > 0; ++i) usleep(10'000);
  EXPECT_EQ(consoles.active(), 0);
}

class StreamConsoleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    harness_.Open();
    harness_.AddVm("a");
  }
  ServiceHarness harness_{{.max_streams = 2, .first_message_timeout = std::chrono::seconds(60)}};
};

TEST_F(StreamConsoleTest, CarriesBytesBothWays) {
  Client client(&harness_);
  ASSERT_TRUE(client.Send("a"));
  const Fd guest = harness_.backend().TakeGuestConsole();
  ASSERT_OK(WriteAll(guest.get(), "login: "));
  EXPECT_EQ(client.Receive(7), "login: ");
  ASSERT_TRUE(client.Send("", "root\n"));
  EXPECT_EQ(ReadExactly(guest, 5), "root\n");
  EXPECT_EQ(client.lost(), 0);
}

TEST_F(StreamConsoleTest, TakesInputFromTheFirstMessage) {
  Client client(&harness_);
  ASSERT_TRUE(client.Send("a", "early"));
  const Fd guest = harness_.backend().TakeGuestConsole();
  EXPECT_EQ(ReadExactly(guest, 5), "early");
}

TEST_F(StreamConsoleTest, EndsWithTheVmAfterItsLastWords) {
  Client client(&harness_);
  ASSERT_TRUE(client.Send("a"));
  Fd guest = harness_.backend().TakeGuestConsole();
  ASSERT_OK(WriteAll(guest.get(), "bye"));
  guest.Reset();
  EXPECT_EQ(client.Receive(3), "bye");
  EXPECT_EQ(client.Finish().code, grpc::StatusCode::OK);
}

TEST_F(StreamConsoleTest, FollowsAClientThatOnlyListens) {
  Client client(&harness_);
  ASSERT_TRUE(client.Send("a"));
  client.CloseInput();
  Fd guest = harness_.backend().TakeGuestConsole();
  ASSERT_OK(WriteAll(guest.get(), "one"));
  EXPECT_EQ(client.Receive(3), "one");
  ASSERT_OK(WriteAll(guest.get(), "two"));
  EXPECT_EQ(client.Receive(3), "two");
  guest.Reset();
  EXPECT_EQ(client.Finish().code, grpc::StatusCode::OK);
}

TEST_F(StreamConsoleTest, TellsWhatWasLost) {
  harness_.backend().SetLostBytes(77);
  Client client(&harness_);
  ASSERT_TRUE(client.Send("a"));
  Fd guest = harness_.backend().TakeGuestConsole();
  ASSERT_OK(WriteAll(guest.get(), "abc"));
  EXPECT_EQ(client.Receive(3), "abc");
  guest.Reset();
  EXPECT_EQ(client.Finish().code, grpc::StatusCode::OK);
  EXPECT_EQ(client.lost(), 77);
}

TEST_F(StreamConsoleTest, GoesOnBehindWhatASlowReaderMissed) {
  harness_.backend().SetLostBytes(10);
  Client client(&harness_);
  ASSERT_TRUE(client.Send("a"));
  Fd guest = harness_.backend().TakeGuestConsole();
  ASSERT_OK(WriteAll(guest.get(), "abc"));
  EXPECT_EQ(client.Receive(3), "abc");
  harness_.backend().SetLostBytes(1000);
  guest.Reset();  // as a worker does with an attachment that fell behind its ring
  guest = harness_.backend().TakeGuestConsole();
  ASSERT_OK(WriteAll(guest.get(), "xyz"));
  EXPECT_EQ(client.Receive(3), "xyz");
  EXPECT_EQ(client.lost(), 1000 - 3);
  ASSERT_TRUE(client.Send("", "still there?"));
  EXPECT_EQ(ReadExactly(guest, 12), "still there?");
  guest.Reset();
  EXPECT_EQ(client.Finish().code, grpc::StatusCode::OK);
  EXPECT_EQ(client.lost(), 1000 - 3);
}

TEST_F(StreamConsoleTest, MovesMegabytesIntactThroughBothBackpressures) {
  const std::string out(3 << 20, 'o');
  const std::string in(2 << 20, 'i');
  Client client(&harness_);
  ASSERT_TRUE(client.Send("a"));
  const Fd guest = harness_.backend().TakeGuestConsole();
  std::thread writer([&] { EXPECT_OK(WriteAll(guest.get(), out)); });
  std::thread sender([&] {
    for (size_t i = 0; i < in.size(); i += 65536) EXPECT_TRUE(client.Send("", in.substr(i, 65536)));
  });
  EXPECT_EQ(client.Receive(out.size()).size(), out.size());
  writer.join();
  EXPECT_EQ(ReadExactly(guest, in.size()), in);
  sender.join();
}

TEST_F(StreamConsoleTest, StopsReadingAGuestWhoseClientDoesNotRead) {
  Client client(&harness_);
  ASSERT_TRUE(client.Send("a"));
  const Fd guest = harness_.backend().TakeGuestConsole();
  const std::string chunk(64 * 1024, 'x');
  size_t sent = 0;
  // Until nobody has taken anything for a while.
  struct pollfd room = {guest.get(), POLLOUT, 0};
  while (sent < (64u << 20) && poll(&room, 1, 500) > 0) {
    const ssize_t n = send(guest.get(), chunk.data(), chunk.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) sent += static_cast<size_t>(n);
  }
  EXPECT_LT(sent, 64u << 20);
  EXPECT_EQ(client.Receive(sent).size(), sent);
}

TEST_F(StreamConsoleTest, EndsWhenTheClientCancels) {
  Client client(&harness_);
  ASSERT_TRUE(client.Send("a"));
  const Fd guest = harness_.backend().TakeGuestConsole();
  client.Cancel();
  EXPECT_EQ(client.Finish().code, grpc::StatusCode::CANCELLED);
  EXPECT_EQ(ReadExactly(guest, 1), "");
  AwaitNoStreams(harness_.consoles());
}

TEST_F(StreamConsoleTest, EndsWhenTheAgentStops) {
  Client client(&harness_);
  ASSERT_TRUE(client.Send("a"));
  const Fd guest = harness_.backend().TakeGuestConsole();
  harness_.consoles().Shutdown();
  const RpcError error = client.Finish();
  EXPECT_EQ(error.code, grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(error.reason, "AGENT_STOPPING");
  AwaitNoStreams(harness_.consoles());
}

TEST_F(StreamConsoleTest, RefusesAnUnknownVm) {
  Client client(&harness_);
  client.Send("nobody");
  const RpcError error = client.Finish();
  EXPECT_EQ(error.code, grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(error.metadata.at("vm_id"), "nobody");
}

TEST_F(StreamConsoleTest, RefusesMessagesThatBreakTheRules) {
  const auto field_of = [&](auto talk) {
    Client client(&harness_);
    talk(client);
    const RpcError error = client.Finish();
    EXPECT_EQ(error.code, grpc::StatusCode::INVALID_ARGUMENT);
    return error.violations.empty() ? "" : error.violations[0].field;
  };
  EXPECT_EQ(field_of([](Client& client) { client.Send(""); }), "vm_id");
  EXPECT_EQ(field_of([](Client& client) { client.CloseInput(); }), "vm_id");
  EXPECT_EQ(field_of([](Client& client) { client.Send("a") && client.Send("a"); }), "vm_id");
  EXPECT_EQ(field_of([](Client& client) { client.Send("a", std::string(65537, 'x')); }), "input");
  AwaitNoStreams(harness_.consoles());
}

TEST_F(StreamConsoleTest, RefusesMoreStreamsThanItMayServe) {
  Client first(&harness_), second(&harness_);
  ASSERT_TRUE(first.Send("a"));
  const Fd one = harness_.backend().TakeGuestConsole();
  ASSERT_TRUE(second.Send("a"));
  const Fd two = harness_.backend().TakeGuestConsole();
  Client third(&harness_);
  const RpcError error = third.Finish();
  EXPECT_EQ(error.code, grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(error.reason, "TOO_MANY_CONSOLES");
  first.Cancel();
  second.Cancel();
  AwaitNoStreams(harness_.consoles());
}

TEST(StreamConsoleTimeoutTest, EndsAStreamWithoutAnyMessage) {
  ServiceHarness harness({.first_message_timeout = std::chrono::milliseconds(50)});
  harness.Open();
  Client client(&harness);
  const RpcError error = client.Finish();
  EXPECT_EQ(error.code, grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(error.reason, "NO_FIRST_MESSAGE");
  AwaitNoStreams(harness.consoles());
}

}  // namespace
}  // namespace drover
