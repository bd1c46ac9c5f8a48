#include "vmm/base/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;

class EventLoopTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(loop_, EventLoop::Create());
    ASSERT_OK_AND_ASSIGN(event_, MakeEventFd());
  }

  std::unique_ptr<EventLoop> loop_;
  Fd event_;
};

TEST_F(EventLoopTest, CallsWhatIsReady) {
  int calls = 0;
  ASSERT_OK(loop_->Watch(event_.get(), EPOLLIN, [&](uint32_t events) {
    EXPECT_EQ(events, static_cast<uint32_t>(EPOLLIN));
    ++calls;
    loop_->Unwatch(event_.get());
  }));
  EXPECT_THAT(loop_->Watch(event_.get(), EPOLLIN, [](uint32_t) {}),
              StatusIs(absl::StatusCode::kAlreadyExists));
  eventfd_write(event_.get(), 1);
  loop_->RunOnce(milliseconds(1000));
  loop_->RunOnce(milliseconds(0));
  EXPECT_EQ(calls, 1);
}

TEST_F(EventLoopTest, AnEventCollectedForAnEndedWatchIsDropped) {
  ASSERT_OK_AND_ASSIGN(Fd other, MakeEventFd());
  int calls = 0;
  const auto first_ends_both = [&](uint32_t) {
    ++calls;
    loop_->Unwatch(event_.get());
    loop_->Unwatch(other.get());
  };
  ASSERT_OK(loop_->Watch(event_.get(), EPOLLIN, first_ends_both));
  ASSERT_OK(loop_->Watch(other.get(), EPOLLIN, first_ends_both));
  eventfd_write(event_.get(), 1);
  eventfd_write(other.get(), 1);
  loop_->RunOnce(milliseconds(1000));
  EXPECT_EQ(calls, 1);
}

TEST_F(EventLoopTest, TimersRunInTheirOrderAndCanBeCancelled) {
  std::vector<int> order;
  loop_->RunAfter(milliseconds(20), [&] {
    order.push_back(2);
    loop_->Stop();
  });
  loop_->RunAfter(milliseconds(1), [&] { order.push_back(1); });
  loop_->CancelTimer(loop_->RunAfter(milliseconds(2), [&] { order.push_back(99); }));
  loop_->Run();
  EXPECT_THAT(order, ElementsAre(1, 2));
}

TEST_F(EventLoopTest, PostAndStopWorkFromOtherThreads) {
  std::atomic<int> sum{0};
  std::thread other([&] {
    for (int i = 0; i < 1000; ++i) loop_->Post([&] { ++sum; });
    loop_->Post([&] { loop_->Stop(); });
  });
  loop_->Run();
  other.join();
  EXPECT_EQ(sum, 1000);
}

TEST_F(EventLoopTest, AStopBeforeRunIsNotLost) {
  loop_->Stop();
  loop_->Run();
}

}  // namespace
}  // namespace drover
