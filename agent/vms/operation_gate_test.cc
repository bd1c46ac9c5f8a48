#include "agent/vms/operation_gate.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "agent/vms/executor.h"
#include "agent/vms/fake_host.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

TEST(OperationGateTest, OneAtATime) {
  Executor executor(8);
  OperationGate gate([&](OperationGate::Task task) { return executor.Post(std::move(task)); });
  std::atomic<int> inside{0};
  std::atomic<int> done{0};
  std::atomic<bool> overlapped{false};
  const auto body = [&] {
    if (++inside != 1) overlapped = true;
    std::this_thread::yield();
    --inside;
    ++done;
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int j = 0; j < 100; ++j) {
        const auto hold = gate.Acquire(steady_clock::now() + std::chrono::seconds(60));
        if (hold.has_value()) body();
        gate.RunWhenFree(body);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(FakeHost::Eventually([&] { return done == 800; })) << done;
  executor.Shutdown();
  EXPECT_FALSE(overlapped);
}

TEST(OperationGateTest, WaitIsBounded) {
  OperationGate gate([](const OperationGate::Task&) { return false; });
  const auto hold = gate.Acquire(steady_clock::now());
  ASSERT_TRUE(hold.has_value());
  EXPECT_FALSE(gate.Acquire(steady_clock::now() + milliseconds(20)).has_value());
}

TEST(OperationGateTest, TasksThatNeverRunDoNotKeepTheTurn) {
  OperationGate gate([](const OperationGate::Task&) { return false; });
  gate.RunWhenFree([] { FAIL(); });
  EXPECT_TRUE(gate.Acquire(steady_clock::now()).has_value());
}

TEST(ExecutorTest, RunsWhatIsQueuedAtShutdown) {
  std::atomic<int> done{0};
  Executor executor(2);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(executor.Post([&] { ++done; }));
  executor.Shutdown();
  EXPECT_EQ(done, 50);
  EXPECT_FALSE(executor.Post([] {}));
}

}  // namespace
}  // namespace drover
