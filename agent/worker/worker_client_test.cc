#include "agent/worker/worker_client.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/worker/fake_worker.h"
#include "vmm/base/status_matchers.h"
#include "vmm/base/unix_channel.h"

namespace drover {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr seconds kLong(30);
constexpr milliseconds kShort(50);

bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 3000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

class WorkerClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/drover-wc-XXXXXX";
    directory_ = mkdtemp(name);
    ASSERT_OK_AND_ASSIGN(loop_, WorkerLoop::Create());
    ASSERT_OK_AND_ASSIGN(worker_, FakeWorker::Serve("i-1", Path(), nullptr));
    Connect();
  }
  ~WorkerClientTest() override { std::filesystem::remove_all(directory_); }

  std::string Path() const { return directory_ + "/control.sock"; }
  void Connect() {
    WorkerClient::Callbacks callbacks;
    callbacks.on_report = [this](const MachineReport& report) {
      ++reports_;
      last_boot_count_ = report.boot_count;
    };
    callbacks.on_closed = [this] { ++closed_; };
    ASSERT_OK_AND_ASSIGN(client_, WorkerClient::Connect(loop_.get(), Path(), callbacks));
  }
  void BringUp() { ASSERT_OK(client_->BringUp("i-1", {"vm", 2, 4096, "x"}, kLong)); }
  void ExpectReason(const absl::Status& status, absl::StatusCode code, const char* reason) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_EQ(ReasonOf(status), reason) << status;
  }

  std::string directory_;
  std::atomic<int> reports_{0};
  std::atomic<uint32_t> last_boot_count_{0};
  std::atomic<int> closed_{0};
  std::unique_ptr<FakeWorker> worker_;
  std::unique_ptr<WorkerLoop> loop_;
  std::unique_ptr<WorkerClient> client_;
};

TEST_F(WorkerClientTest, BringsUpAMachine) {
  ASSERT_OK_AND_ASSIGN(const WorkerGreeting greeting,
                       client_->BringUp("i-1", {"vm", 2, 4096, "quiet"}, kLong));
  EXPECT_EQ(greeting.version, "0.1.0-fake");
  EXPECT_EQ(greeting.machine.state, ReportedState::kRunning);
  EXPECT_EQ(greeting.machine.boot_count, 1u);
  const MachineConfig config = worker_->config();
  EXPECT_EQ(config.vm_id, "vm");
  EXPECT_EQ(config.vcpus, 2u);
  EXPECT_EQ(config.memory_bytes, 4096u);
  EXPECT_EQ(config.command_line, "quiet");
  EXPECT_THAT(worker_->calls(),
              ElementsAre(WorkerCall::kHello, WorkerCall::kConfigure, WorkerCall::kStart));
}

TEST_F(WorkerClientTest, TheMachinesPlanComesCleaned) {
  VmPlan plan = {
      MemoryPages::k4K,
      static_cast<DirtyLogMode>(77),
      SnapshotMode::kPaused,
      MigrationMode::kUnspecified,
      {{"vm.spec.x\x1b[", "2 MiB\npages", "4 KiB pages", "UPPER", std::string(2000, 'r')}}};
  plan.fallbacks.resize(30, plan.fallbacks[0]);
  worker_->set_plan(plan);
  MachineConfig config = {"vm", 2, 4096, "", {.dirty_log = {DirtyLogMode::kRing, true}}, {"irqfd"}};
  ASSERT_OK_AND_ASSIGN(const WorkerGreeting greeting, client_->BringUp("i-1", config, kLong));
  EXPECT_EQ(worker_->config().features, config.features);
  EXPECT_THAT(worker_->config().withheld, ElementsAre("irqfd"));
  const VmPlan& got = greeting.machine.plan;
  EXPECT_EQ(got.memory_pages, MemoryPages::k4K);
  EXPECT_EQ(got.dirty_log, DirtyLogMode::kUnspecified);
  ASSERT_EQ(got.fallbacks.size(), 16u);
  EXPECT_EQ(got.fallbacks[0].field, "");
  EXPECT_EQ(got.fallbacks[0].wanted, "2 MiB?pages");
  EXPECT_EQ(got.fallbacks[0].capability, "");
  EXPECT_EQ(got.fallbacks[0].reason.size(), 1024u);
}

TEST_F(WorkerClientTest, EveryCall) {
  ASSERT_OK(client_->Hello("i-1", kLong));
  ASSERT_OK(client_->Configure({"vm", 1, 4096, ""}, kLong));
  ASSERT_OK(client_->Start(kLong));
  EXPECT_EQ(client_->Pause(kLong)->state, ReportedState::kPaused);
  EXPECT_EQ(client_->Resume(kLong)->state, ReportedState::kRunning);
  EXPECT_EQ(client_->Reset(kLong)->boot_count, 2u);
  EXPECT_OK(client_->PowerButton(kLong));
  EXPECT_OK(client_->Stop(kLong));
  EXPECT_TRUE(Eventually([&] { return client_->closed() && closed_ == 1; }));
  ExpectReason(client_->Pause(kLong).status(), absl::StatusCode::kUnavailable, "WORKER_GONE");
}

TEST_F(WorkerClientTest, TheWorkersErrorIsTheCallers) {
  worker_->Refuse(WorkerCall::kConfigure,
                  WithField(WithReason(absl::InvalidArgumentError("no\nELF"), "BAD_KERNEL"),
                            "vm.spec.boot.kernel_path"));
  const absl::Status status = client_->BringUp("i-1", {"vm", 1, 4096, ""}, kLong).status();
  ExpectReason(status, absl::StatusCode::kInvalidArgument, "BAD_KERNEL");
  EXPECT_EQ(FieldOf(status), "vm.spec.boot.kernel_path");
  EXPECT_EQ(status.message(), "no?ELF");
}

TEST_F(WorkerClientTest, EventsArrive) {
  BringUp();
  const int before = reports_;
  worker_->Reset();
  EXPECT_TRUE(Eventually([&] { return reports_ > before && last_boot_count_ == 2; }));
}

TEST_F(WorkerClientTest, ConsoleComesAsSocket) {
  ASSERT_OK_AND_ASSIGN(WorkerClient::Console console, client_->AttachConsole(kLong));
  EXPECT_EQ(console.lost_bytes, 7u);
  char text[64];
  EXPECT_EQ(recv(console.socket.get(), text, sizeof(text), 0), 21);
  EXPECT_NE(fcntl(console.socket.get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(WorkerClientTest, SilenceIsUnresponsiveAndDoesNotEndTheConnection) {
  BringUp();
  worker_->Hang(WorkerCall::kPause);
  ExpectReason(client_->Pause(kShort).status(), absl::StatusCode::kUnavailable,
               "WORKER_UNRESPONSIVE");
  EXPECT_FALSE(client_->closed());
  EXPECT_OK(client_->Reset(kLong));
}

TEST_F(WorkerClientTest, DeathIsGone) {
  for (WorkerCall call : {WorkerCall::kHello, WorkerCall::kConfigure, WorkerCall::kStart}) {
    ASSERT_OK_AND_ASSIGN(worker_, FakeWorker::Serve("i-1", Path(), nullptr));
    Connect();
    worker_->Script(call, {FakeWorker::Behaviour::kDie, {}});
    ExpectReason(client_->BringUp("i-1", {"vm", 1, 4096, ""}, kLong).status(),
                 absl::StatusCode::kUnavailable, "WORKER_GONE");
  }
}

TEST_F(WorkerClientTest, NobodyListens) {
  const auto client = WorkerClient::Connect(loop_.get(), directory_ + "/nothing.sock", {});
  ExpectReason(client.status(), absl::StatusCode::kUnavailable, "WORKER_GONE");
}

TEST_F(WorkerClientTest, NobodyAccepts) {
  Fd listener(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  ASSERT_OK_AND_ASSIGN(Fd bound, ListenUnix(directory_ + "/full.sock", 0600));
  listen(bound.get(), 0);
  std::vector<std::unique_ptr<WorkerClient>> clients;
  for (int i = 0; i < 8; ++i) {
    auto client = WorkerClient::Connect(loop_.get(), directory_ + "/full.sock", {});
    if (!client.ok())
      return ExpectReason(client.status(), absl::StatusCode::kUnavailable, "WORKER_UNRESPONSIVE");
    clients.push_back(*std::move(client));
  }
  FAIL() << "the listener's queue never filled";
}

TEST_F(WorkerClientTest, AnotherWorkerIsAMismatch) {
  worker_->set_instance_id("i-2");
  ExpectReason(client_->Hello("i-1", kLong).status(), absl::StatusCode::kFailedPrecondition,
               "WORKER_MISMATCH");
  worker_->set_instance_id("i-1");
  worker_->set_protocol(99);
  ExpectReason(client_->Hello("i-1", kLong).status(), absl::StatusCode::kFailedPrecondition,
               "WORKER_MISMATCH");
}

TEST_F(WorkerClientTest, GarbageEndsTheConnection) {
  worker_->Script(WorkerCall::kHello, {FakeWorker::Behaviour::kGarbage, {}});
  ExpectReason(client_->Hello("i-1", kLong).status(), absl::StatusCode::kUnavailable,
               "WORKER_GONE");
}

TEST_F(WorkerClientTest, FloodsAreReadSlowlyAndCallsStillAnswered) {
  BringUp();
  for (int i = 0; i < 500; ++i)
    worker_->SendEvent({ReportedState::kRunning, "", "", static_cast<uint32_t>(i)});
  EXPECT_OK(client_->Pause(kLong));
}

TEST_F(WorkerClientTest, CloseReleasesCallers) {
  worker_->Hang(WorkerCall::kHello);
  std::thread closer([&] {
    while (worker_->calls().empty()) std::this_thread::yield();
    client_->Close();
  });
  ExpectReason(client_->Hello("i-1", kLong).status(), absl::StatusCode::kUnavailable,
               "WORKER_GONE");
  closer.join();
}

TEST_F(WorkerClientTest, ManyThreads) {
  BringUp();
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int j = 0; j < 50; ++j) good += client_->Hello("i-1", kLong).ok();
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 200);
}

int OpenFds() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    ++count;
  return count;
}

TEST_F(WorkerClientTest, LeaksNoDescriptors) {
  ASSERT_OK(client_->Hello("i-1", kLong));  // so that the worker has accepted
  const int before = OpenFds();
  for (int i = 0; i < 20; ++i) {
    Connect();
    ASSERT_OK(client_->AttachConsole(kLong));
  }
  worker_->TakeConsole();
  // The first connection is replaced by the last; the fake worker may notice the last hang-up only
  // with the next message, so one more at each end does not count. A leak would show as twenty.
  EXPECT_TRUE(Eventually([&] { return OpenFds() <= before + 2; })) << before << " " << OpenFds();
}

TEST(WorkerProtoTest, LastWords) {
  const MachineReport report = {ReportedState::kFailed, "TRIPLE_FAULT", "at rip 0", 3};
  EXPECT_THAT(DecodeLastWords(EncodeLastWords("i", report), "i"), IsOkAndHolds(report));
  EXPECT_THAT(DecodeLastWords(EncodeLastWords("i", report), "j"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("another")));
  EXPECT_FALSE(DecodeLastWords("", "").ok());
  EXPECT_FALSE(DecodeLastWords("\xff\xff", "i").ok());
  EXPECT_FALSE(
      DecodeLastWords(EncodeLastWords("i", {ReportedState::kRunning, "", "", 1}), "i").ok());
  EXPECT_FALSE(DecodeLastWords(std::string(kMaxLastWordsBytes + 1, '\0'), "i").ok());
}

TEST(WorkerProtoTest, TextsAreCleaned) {
  const MachineReport report = {ReportedState::kStopped, "bad reason\n", std::string(5000, '\x1b'),
                                1};
  ASSERT_OK_AND_ASSIGN(const MachineReport clean,
                       DecodeLastWords(EncodeLastWords("i", report), "i"));
  EXPECT_EQ(clean.reason, "MALFORMED_REASON");
  EXPECT_EQ(clean.message, std::string(1024, '?'));
}

}  // namespace
}  // namespace drover
