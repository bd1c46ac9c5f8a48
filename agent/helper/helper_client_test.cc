#include "agent/helper/helper_client.h"

#include <functional>
#include <thread>

#include "vmm/base/status_matchers.h"
#include "vmm/base/status_proto.h"

namespace drover {
namespace {

using ::testing::HasSubstr;
using worker::v1::HelperRequest;
using worker::v1::HelperResponse;

// A helper that answers as the test says; it ends with the client's channel.
class HelperClientTest : public ::testing::Test {
 protected:
  using Answer = std::function<void(const HelperRequest& request, UnixChannel* channel)>;

  void Serve(Answer answer, std::chrono::milliseconds limit = HelperClient::kDefaultLimit) {
    ASSERT_OK_AND_ASSIGN(auto pair, UnixChannel::Pair());
    client_ = std::make_unique<HelperClient>(std::move(pair.first), limit);
    thread_ = std::thread([answer = std::move(answer), channel = std::move(pair.second)]() mutable {
      while (channel.valid()) {
        const auto message = channel.Receive();
        if (!message.ok()) return;
        HelperRequest request;
        request.ParseFromString(message->bytes);
        answer(request, &channel);
      }
    });
  }

  void TearDown() override {
    client_ = nullptr;
    if (thread_.joinable()) thread_.join();
  }

  static void Reply(const HelperRequest& request, UnixChannel* channel, const absl::Status& status,
                    absl::Span<const int> fds = {}) {
    HelperResponse response;
    response.set_sequence(request.sequence());
    *response.mutable_status() = StatusToProto(status);
    EXPECT_OK(channel->Send(response.SerializeAsString(), fds));
  }

  void ExpectGone() {
    const absl::Status status = client_->Kill("a");
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable));
    EXPECT_EQ(ReasonOf(status), "HELPER_GONE");
  }

  std::unique_ptr<HelperClient> client_;
  std::thread thread_;
};

TEST_F(HelperClientTest, ErrorsKeepTheirParts) {
  Serve([](const HelperRequest& request, UnixChannel* channel) {
    EXPECT_EQ(request.check_file().path(), "/p");
    Reply(request, channel,
          WithReason(WithField(absl::NotFoundError("no"), request.check_file().field()), "R"));
  });
  const absl::Status status = client_->CheckFile("/p", "f");
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound, "no"));
  EXPECT_EQ(ReasonOf(status), "R");
  EXPECT_EQ(FieldOf(status), "f");
}

TEST_F(HelperClientTest, AMissingDescriptorFailsThatCallOnly) {
  Serve([](const HelperRequest& request, UnixChannel* channel) {
    Reply(request, channel, absl::OkStatus());
  });
  EXPECT_THAT(client_->Launch({.instance_id = "a"}),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("0 descriptors")));
  EXPECT_THAT(client_->Adopt("a"), StatusIs(absl::StatusCode::kInternal));
  EXPECT_OK(client_->Kill("a"));
}

TEST_F(HelperClientTest, TooManyDescriptorsAreClosed) {
  Serve([](const HelperRequest& request, UnixChannel* channel) {
    Reply(request, channel, absl::OkStatus(), {0, 0});
  });
  EXPECT_THAT(client_->Adopt("a"), StatusIs(absl::StatusCode::kInternal));
}

TEST_F(HelperClientTest, TheEndIsTheEnd) {
  Serve([](const HelperRequest&, UnixChannel* channel) { channel->Close(); });
  ExpectGone();
  ExpectGone();
}

TEST_F(HelperClientTest, ATimeOutIsTheEnd) {
  Serve([](const HelperRequest&, UnixChannel*) {}, std::chrono::milliseconds(20));
  ExpectGone();
  ExpectGone();
}

TEST_F(HelperClientTest, AnAnswerToAnotherQuestionIsTheEnd) {
  Serve([](const HelperRequest& request, UnixChannel* channel) {
    HelperRequest other = request;
    other.set_sequence(request.sequence() + 1);
    Reply(other, channel, absl::OkStatus());
  });
  ExpectGone();
  ExpectGone();
}

TEST_F(HelperClientTest, GarbageIsTheEnd) {
  Serve([](const HelperRequest&, UnixChannel* channel) { EXPECT_OK(channel->Send("\xff\xff")); });
  ExpectGone();
}

TEST_F(HelperClientTest, ManyThreads) {
  Serve([](const HelperRequest& request, UnixChannel* channel) {
    Reply(request, channel, absl::NotFoundError(request.kill().instance_id()));
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([this, t] {
      for (int i = 0; i < 200; ++i) {
        const std::string id = std::to_string(t * 1000 + i);
        EXPECT_EQ(client_->Kill(id).message(), id);
      }
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace drover
