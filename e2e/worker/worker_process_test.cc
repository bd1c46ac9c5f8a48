#include "e2e/worker/worker_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

namespace pb = worker::v1;

constexpr char kBinary[] = "vmm/worker/drover-vmm";
constexpr char kGuest[] = "e2e/guest/guest.elf";
constexpr char kFirstLine[] = "hello from drover test guest";
constexpr uint64_t kMemory = 128 << 20;

template <typename Set>
pb::WorkerRequest Request(Set set) {
  pb::WorkerRequest request;
  set(request);
  return request;
}
pb::WorkerRequest Pause() {
  return Request([](auto& r) { r.mutable_pause(); });
}
pb::WorkerRequest Resume() {
  return Request([](auto& r) { r.mutable_resume(); });
}
pb::WorkerRequest Reset() {
  return Request([](auto& r) { r.mutable_reset(); });
}
pb::WorkerRequest Stop() {
  return Request([](auto& r) { r.mutable_stop(); });
}
pb::WorkerRequest Hello() {
  return Request([](auto& r) {
    r.mutable_hello()->set_min_protocol(1);
    r.mutable_hello()->set_max_protocol(1);
  });
}
pb::WorkerRequest Configure(uint32_t vcpus, uint64_t memory_bytes) {
  return Request([&](auto& r) {
    r.mutable_configure()->set_vcpus(vcpus);
    r.mutable_configure()->set_memory_bytes(memory_bytes);
  });
}

class WorkerProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "/dev/kvm cannot be used";
    auto process = WorkerProcess::Start(kBinary);
    ASSERT_THAT(process, IsOk());
    process_ = *std::move(process);
  }
  void TearDown() override {
    if (!HasFailure() || process_ == nullptr) return;
    if (const auto log = process_->ReadLog(); log.ok()) printf("worker log:\n%s", log->c_str());
  }

  void LaunchAndBoot(uint32_t vcpus = 1, const std::string& command_line = "") {
    ASSERT_THAT(process_->Launch(kGuest), IsOk());
    ASSERT_THAT(process_->Connect(), IsOk());
    ASSERT_THAT(process_->Boot(vcpus, kMemory, command_line), IsOk());
    ASSERT_THAT(process_->ReadUntil(kFirstLine), IsOk());
    ASSERT_THAT(process_->ReadUntil("ready"), IsOk());
  }
  void ExpectEcho(const std::string& word) {
    ASSERT_THAT(process_->Type("echo " + word + "\n"), IsOk());
    EXPECT_THAT(process_->ReadUntil("ok echo " + word), IsOk());
  }
  void ExpectEnd(pb::MachineState state, const std::string& reason) {
    const auto event = process_->WaitForState(state);
    ASSERT_THAT(event, IsOk());
    EXPECT_EQ(event->reason(), reason) << event->message();
    process_->Disconnect();
    const auto status = process_->Wait();
    ASSERT_THAT(status, IsOk());
    EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == 0) << "wait status " << *status;
    const auto words = process_->ReadLastWords();
    ASSERT_THAT(words, IsOk());
    EXPECT_EQ(words->instance_id(), "instance-1");
    EXPECT_EQ(words->machine().state(), state);
    EXPECT_EQ(words->machine().reason(), reason);
  }

  std::unique_ptr<WorkerProcess> process_;
};

TEST_F(WorkerProcessTest, EndsQuietlyWithoutLaunch) {
  process_->HangUp();
  const auto status = process_->Wait();
  ASSERT_THAT(status, IsOk());
  EXPECT_EQ(*status, 0);
}

TEST_F(WorkerProcessTest, EchoThenPowerOff) {
  ASSERT_NO_FATAL_FAILURE(LaunchAndBoot());
  ExpectEcho("one");
  ASSERT_THAT(process_->Type("poweroff\n"), IsOk());
  ExpectEnd(pb::MACHINE_STATE_STOPPED, "GUEST_SHUTDOWN");
}

TEST_F(WorkerProcessTest, PauseAndResume) {
  ASSERT_NO_FATAL_FAILURE(LaunchAndBoot());
  for (int i = 0; i < 20; ++i) {
    const auto paused = process_->Call(Pause());
    ASSERT_THAT(paused, IsOk());
    EXPECT_EQ(paused->machine().state(), pb::MACHINE_STATE_PAUSED);
    EXPECT_EQ(ReasonOf(process_->Call(Pause()).status()), "WRONG_STATE");
    const std::string word = "round" + std::to_string(i);
    ASSERT_THAT(process_->Type("echo " + word + "\n"), IsOk());
    ASSERT_THAT(process_->Call(Resume()), IsOk());
    EXPECT_THAT(process_->ReadUntil("ok echo " + word), IsOk());
  }
}

TEST_F(WorkerProcessTest, PauseManyVcpus) {
  ASSERT_NO_FATAL_FAILURE(LaunchAndBoot(4));
  ASSERT_THAT(process_->Type("cpus start count=4\n"), IsOk());
  EXPECT_THAT(process_->ReadUntil("ok cpus online=4"), IsOk());
  for (int i = 0; i < 20; ++i) {
    ASSERT_THAT(process_->Call(Pause()), IsOk());
    ASSERT_THAT(process_->Call(Resume()), IsOk());
  }
  ExpectEcho("alive");
}

TEST_F(WorkerProcessTest, GuestReset) {
  ASSERT_NO_FATAL_FAILURE(LaunchAndBoot());
  for (uint32_t boot = 2; boot < 5; ++boot) {
    ASSERT_THAT(process_->Type("reset\n"), IsOk());
    ASSERT_THAT(process_->ReadUntil(kFirstLine), IsOk());
    ASSERT_THAT(process_->ReadUntil("ready"), IsOk());
    auto event = process_->NextEvent();
    while (event.ok() && event->reason() != "GUEST_RESET") event = process_->NextEvent();
    ASSERT_THAT(event, IsOk());
    EXPECT_EQ(event->boot_count(), boot);
    EXPECT_EQ(event->state(), pb::MACHINE_STATE_RUNNING);
  }
  ExpectEcho("again");
}

TEST_F(WorkerProcessTest, RequestedReset) {
  ASSERT_NO_FATAL_FAILURE(LaunchAndBoot(2));
  const auto running = process_->Call(Reset());
  ASSERT_THAT(running, IsOk());
  EXPECT_EQ(running->machine().boot_count(), 2u);
  EXPECT_EQ(running->machine().reason(), "RESET_REQUESTED");
  ASSERT_THAT(process_->ReadUntil(kFirstLine), IsOk());
  ASSERT_THAT(process_->Call(Pause()), IsOk());
  ASSERT_THAT(process_->Call(Reset()), IsOk());
  ASSERT_THAT(process_->ReadUntil(kFirstLine), IsOk());
  ASSERT_THAT(process_->ReadUntil("ready"), IsOk());
  ExpectEcho("again");
}

TEST_F(WorkerProcessTest, TripleFaultFails) {
  ASSERT_NO_FATAL_FAILURE(LaunchAndBoot());
  ASSERT_THAT(process_->Type("triple-fault\n"), IsOk());
  ExpectEnd(pb::MACHINE_STATE_FAILED, "TRIPLE_FAULT");
  const auto log = process_->ReadLog();
  ASSERT_THAT(log, IsOk());
  EXPECT_THAT(*log, ::testing::HasSubstr("TRIPLE_FAULT"));
  EXPECT_THAT(*log, ::testing::HasSubstr("rip"));
}

TEST_F(WorkerProcessTest, StopEndsASpinningGuest) {
  ASSERT_NO_FATAL_FAILURE(LaunchAndBoot());
  ASSERT_THAT(process_->Type("spin\n"), IsOk());
  ASSERT_THAT(process_->ReadUntil("ok spin"), IsOk());
  const auto stopped = process_->Call(Stop());
  ASSERT_THAT(stopped, IsOk());
  EXPECT_EQ(stopped->machine().state(), pb::MACHINE_STATE_STOPPED);
  ExpectEnd(pb::MACHINE_STATE_STOPPED, "STOP_REQUESTED");
}

TEST_F(WorkerProcessTest, HaltedGuestCanBeStopped) {
  ASSERT_NO_FATAL_FAILURE(LaunchAndBoot());
  ASSERT_THAT(process_->Type("halt\n"), IsOk());
  ASSERT_THAT(process_->ReadUntil("ok halt"), IsOk());
  ASSERT_THAT(process_->Call(Stop()), IsOk());
  ExpectEnd(pb::MACHINE_STATE_STOPPED, "STOP_REQUESTED");
}

TEST_F(WorkerProcessTest, NewestConnectionWins) {
  ASSERT_NO_FATAL_FAILURE(LaunchAndBoot());
  ASSERT_THAT(process_->Connect(), IsOk());
  const auto hello = process_->Call(Hello());
  ASSERT_THAT(hello, IsOk());
  EXPECT_EQ(hello->hello().instance_id(), "instance-1");
  EXPECT_EQ(hello->hello().machine().state(), pb::MACHINE_STATE_RUNNING);
  ExpectEcho("kept");
}

TEST_F(WorkerProcessTest, RefusalsNameTheFieldAndLeaveTheWorkerUsable) {
  ASSERT_THAT(process_->Launch(kGuest), IsOk());
  ASSERT_THAT(process_->Connect(), IsOk());
  EXPECT_EQ(FieldOf(process_->Call(Configure(0, kMemory)).status()), "vm.spec.vcpus");
  EXPECT_EQ(FieldOf(process_->Call(Configure(255, kMemory)).status()), "vm.spec.vcpus");
  EXPECT_EQ(FieldOf(process_->Call(Configure(1, 0)).status()), "vm.spec.memory_mib");
  EXPECT_EQ(FieldOf(process_->Call(Configure(1, uint64_t{1} << 60)).status()),
            "vm.spec.memory_mib");
  EXPECT_THAT(process_->Call(Configure(1, kMemory)), IsOk());
  EXPECT_EQ(ReasonOf(process_->Call(Pause()).status()), "WRONG_STATE");
  ASSERT_THAT(process_->Call(Stop()), IsOk());
  ExpectEnd(pb::MACHINE_STATE_STOPPED, "STOP_REQUESTED");
}

TEST_F(WorkerProcessTest, BadKernelIsRefused) {
  const std::string path = "/tmp/drover-bad-kernel-" + std::to_string(getpid());
  std::ofstream(path) << std::string(8192, 'k');
  const absl::Status launched = process_->Launch(path);
  unlink(path.c_str());
  ASSERT_THAT(launched, IsOk());
  ASSERT_THAT(process_->Connect(), IsOk());
  const auto refused = process_->Call(Configure(1, kMemory));
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kInvalidArgument, ::testing::_));
  EXPECT_EQ(FieldOf(refused.status()), "vm.spec.boot.kernel_path");
}

// A peer that talks nonsense loses its connection; the guest and the next peer notice nothing.
TEST_F(WorkerProcessTest, NonsenseEndsTheConnectionOnly) {
  ASSERT_NO_FATAL_FAILURE(LaunchAndBoot());
  pb::WorkerRequest nothing;
  EXPECT_THAT(process_->Call(nothing), StatusIs(absl::StatusCode::kUnimplemented, ::testing::_));
  ExpectEcho("still");
}

std::string StatusLine(pid_t pid, const std::string& key) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);)
    if (line.rfind(key, 0) == 0) return line;
  return key + ": ?";
}

// Figures, printed and not asserted.
TEST_F(WorkerProcessTest, Figures) {
  std::vector<double> millis;
  for (int i = 0; i < 20; ++i) {
    auto process = WorkerProcess::Start(kBinary);
    ASSERT_THAT(process, IsOk());
    usleep(20000);  // the spare worker prepares itself
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_THAT((*process)->Launch(kGuest), IsOk());
    ASSERT_THAT((*process)->Connect(), IsOk());
    ASSERT_THAT((*process)->Boot(1, kMemory, ""), IsOk());
    ASSERT_THAT((*process)->ReadUntil("h"), IsOk());
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    millis.push_back(took.count());
    if (i > 0) continue;
    ASSERT_THAT((*process)->ReadUntil("ready"), IsOk());
    usleep(1000000);  // it gives back what the start alone needed
    for (const char* key : {"VmRSS", "RssAnon", "RssFile", "RssShmem", "Threads"})
      printf("%s\n", StatusLine((*process)->pid(), key).c_str());
  }
  std::sort(millis.begin(), millis.end());
  printf("launch to first byte, milliseconds: min %.2f median %.2f max %.2f\n", millis.front(),
         millis[millis.size() / 2], millis.back());
}

}  // namespace
}  // namespace drover
