#include "agent/vms/vm_manager.h"

#include <signal.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/errors/field_violations.h"
#include "agent/vms/fake_host.h"
#include "agent/vms/vm_transitions.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr seconds kGrace(3000);
constexpr char kRequestA[] = "6f1c1d3e-0a0b-4c4d-8e8f-012345678901";

absl::Status Full() {
  return WithReason(absl::ResourceExhaustedError("no space"), "STATE_DIR_FULL");
}

class VmManagerTest : public ::testing::Test {
 protected:
  VmManagerTest() { host_.StartAgent(); }
  VmManager& agent() { return host_.agent(); }
  VmView Get(const std::string& id) { return *agent().Get(id); }
  void ExpectError(const absl::Status& status, absl::StatusCode code, const std::string& reason) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_EQ(ReasonOf(status), reason) << status;
  }
  void ExpectNothingLeft() {
    EXPECT_THAT(host_.helper.instances(), IsEmpty());
    EXPECT_EQ(agent().remaining_orphans(), 0u);
  }

  FakeHost host_;
};

TEST_F(VmManagerTest, CreateRecordsAVm) {
  ASSERT_OK_AND_ASSIGN(const VmView view, agent().Create(FakeHost::Params("a")));
  EXPECT_EQ(view.id, "a");
  EXPECT_THAT(view.uid, SizeIs(36));
  EXPECT_EQ(view.state, VmState::kCreated);
  EXPECT_EQ(view.generation, 1);
  EXPECT_EQ(view.spec, FakeHost::Params("a").spec);
  EXPECT_EQ(host_.registry.durable_writes(), 1);
  EXPECT_THAT(host_.registry.Load(), IsOkAndHolds(SizeIs(1)));
}

TEST_F(VmManagerTest, CreateRefusesBadInput) {
  ExpectError(agent().Create(CreateVmParams()).status(), absl::StatusCode::kInvalidArgument,
              "INVALID_FIELDS");
  host_.helper.SetFileError("/images/kernel",
                            WithReason(absl::NotFoundError("no"), "FILE_NOT_FOUND"));
  host_.helper.SetFileError("/images/initrd", WithReason(absl::NotFoundError("no"), "FILE_EMPTY"));
  const absl::Status status = agent().Create(FakeHost::Params("a")).status();
  ExpectError(status, absl::StatusCode::kInvalidArgument, "FILE_NOT_FOUND");
  EXPECT_THAT(FieldViolations(status), SizeIs(2));
  host_.helper.SetGone(true);
  ExpectError(agent().Create(FakeHost::Params("a")).status(), absl::StatusCode::kUnavailable,
              "HELPER_GONE");
  EXPECT_THAT(agent().Snapshot(), IsEmpty());
}

TEST_F(VmManagerTest, AVmIsResolvedAtItsCreateAndByItsWorker) {
  const VmPlan workers = {MemoryPages::k4K,
                          DirtyLogMode::kBitmap,
                          SnapshotMode::kPaused,
                          MigrationMode::kPreCopy,
                          {{"vm.spec.memory_pages.size", "2 MiB pages", "4 KiB pages",
                            "hugetlb_2mib", "none is free"}}};
  host_.host.capabilities->dirty_ring_bytes = 0;
  host_.withheld = {"msr_filter"};
  host_.on_new_worker = [&](FakeWorker* worker) { worker->set_plan(workers); };
  host_.StartAgent();
  CreateVmParams params = FakeHost::Params("a");
  params.spec.features = {.memory_pages = {MemoryPages::k2M, false},
                          .dirty_log = {DirtyLogMode::kRing, false}};
  params.validate_only = true;
  EXPECT_THAT(agent().Create(params)->plan.fallbacks, SizeIs(1));
  params.validate_only = false;
  ASSERT_OK(agent().Create(params));
  EXPECT_EQ(Get("a").plan.memory_pages, MemoryPages::k2M);
  ASSERT_THAT(Get("a").plan.fallbacks, SizeIs(1));
  EXPECT_EQ(Get("a").plan.fallbacks[0].capability, "dirty_ring_bytes");
  ASSERT_OK_AND_ASSIGN(const VmView started, agent().Start("a", ""));
  EXPECT_EQ(started.plan, workers);
  EXPECT_EQ(host_.worker()->config().features, params.spec.features);
  EXPECT_THAT(host_.worker()->config().withheld, ElementsAre("msr_filter"));
  host_.StartAgent();
  EXPECT_EQ(Get("a").plan, workers);
  params.id = "b";
  params.spec.features.dirty_log.required = true;
  const absl::Status refused = agent().Create(params).status();
  ExpectError(refused, absl::StatusCode::kInvalidArgument, "CAPABILITY_MISSING");
  EXPECT_EQ(FieldOf(refused), "vm.spec.dirty_log.kind");
  EXPECT_EQ(CapabilityOf(refused), "dirty_ring_bytes");
  EXPECT_THAT(agent().Snapshot(), SizeIs(1));
}

// A worker that finds less than the agent's probe did.
TEST_F(VmManagerTest, ACapabilityThatIsGoneAtTheStart) {
  host_.on_new_worker = [](FakeWorker* worker) {
    worker->Refuse(WorkerCall::kConfigure, RefusalStatus({{"vm.spec.snapshots.mode", "userfaultfd",
                                                           "the host has no capability userfaultfd",
                                                           "CAPABILITY_MISSING"}}));
  };
  ASSERT_OK(agent().Create(FakeHost::Params("a")));
  const absl::Status status = agent().Start("a", "").status();
  ExpectError(status, absl::StatusCode::kInvalidArgument, "CAPABILITY_MISSING");
  EXPECT_EQ(FieldOf(status), "vm.spec.snapshots.mode");
  EXPECT_EQ(CapabilityOf(status), "userfaultfd");
  EXPECT_EQ(Get("a").state, VmState::kCreated);
  EXPECT_TRUE(FakeHost::Eventually([&] { return host_.helper.instances().empty(); }));
}

TEST_F(VmManagerTest, IdsAreUnique) {
  ASSERT_OK(agent().Create(FakeHost::Params("a")));
  ExpectError(agent().Create(FakeHost::Params("a")).status(), absl::StatusCode::kAlreadyExists,
              "VM_EXISTS");
}

TEST_F(VmManagerTest, RequestIdsRepeat) {
  CreateVmParams params = FakeHost::Params("a");
  params.request_id = kRequestA;
  ASSERT_OK_AND_ASSIGN(const VmView first, agent().Create(params));
  ASSERT_OK_AND_ASSIGN(const VmView second, agent().Create(params));
  EXPECT_EQ(first.uid, second.uid);
  params.spec.vcpus = 1;
  ExpectError(agent().Create(params).status(), absl::StatusCode::kInvalidArgument,
              "REQUEST_ID_REUSED");
  params = FakeHost::Params("b");
  params.request_id = kRequestA;
  ExpectError(agent().Create(params).status(), absl::StatusCode::kInvalidArgument,
              "REQUEST_ID_REUSED");
  host_.StartAgent();  // a request is known to the next agent, too
  params = FakeHost::Params("a");
  params.request_id = kRequestA;
  EXPECT_EQ(agent().Create(params)->uid, first.uid);
}

TEST_F(VmManagerTest, RacingCreatesMakeOneVm) {
  std::vector<std::thread> threads;
  std::atomic<int> same{0};
  std::atomic<int> fresh{0};
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&, i] {
      CreateVmParams params = FakeHost::Params("a");
      if (i % 2) params.request_id = kRequestA;
      const auto view = agent().Create(params);
      (i % 2 ? same : fresh) += view.ok();
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE((same == 4 && fresh == 0) || (same == 0 && fresh == 1)) << same << " " << fresh;
  EXPECT_THAT(agent().Snapshot(), SizeIs(1));
}

TEST_F(VmManagerTest, ValidateOnlyMakesNothing) {
  CreateVmParams params = FakeHost::Params("a");
  params.validate_only = true;
  ASSERT_OK(agent().Create(params));
  EXPECT_THAT(agent().Snapshot(), IsEmpty());
  EXPECT_EQ(agent().Allocation().vms, 0);
  EXPECT_EQ(host_.registry.durable_writes(), 0);
}

TEST_F(VmManagerTest, HostIsNotOverfilled) {
  CreateVmParams params = FakeHost::Params("a");
  params.spec.memory_mib = 1000;
  ASSERT_OK(agent().Create(params));
  ExpectError(agent().Create(FakeHost::Params("b")).status(), absl::StatusCode::kResourceExhausted,
              "HOST_MEMORY_EXHAUSTED");
  ASSERT_OK(agent().Delete("a", "", false, false));
  EXPECT_OK(agent().Create(FakeHost::Params("b")));
}

TEST_F(VmManagerTest, CreateOnAFullDiskMakesNothing) {
  host_.registry.FailWrites(Full());
  ExpectError(agent().Create(FakeHost::Params("a")).status(), absl::StatusCode::kResourceExhausted,
              "STATE_DIR_FULL");
  ExpectError(agent().Get("a").status(), absl::StatusCode::kNotFound, "VM_NOT_FOUND");
  EXPECT_EQ(agent().Allocation().vms, 0);
  host_.registry.FailWrites(absl::OkStatus());
  EXPECT_OK(agent().Create(FakeHost::Params("a")));
}

TEST_F(VmManagerTest, ListPages) {
  for (const char* id : {"c", "a", "d", "b"}) ASSERT_OK(agent().Create(FakeHost::Params(id)));
  std::vector<std::string> ids;
  std::string token;
  do {
    ASSERT_OK_AND_ASSIGN(const VmPage page, agent().List(3, token));
    for (const VmView& view : page.vms) ids.push_back(view.id);
    token = page.next_page_token;
  } while (!token.empty());
  EXPECT_THAT(ids, ElementsAre("a", "b", "c", "d"));
  EXPECT_THAT(agent().List(4, "")->next_page_token, IsEmpty());
  EXPECT_EQ(FieldOf(agent().List(0, "nonsense").status()), "page_token");
  EXPECT_EQ(FieldOf(agent().List(-1, "").status()), "page_size");
}

TEST_F(VmManagerTest, UnknownIdsAreNotFound) {
  const auto expect = [&](const absl::Status& status) {
    ExpectError(status, absl::StatusCode::kNotFound, "VM_NOT_FOUND");
  };
  expect(agent().Get("x").status());
  expect(agent().Start("x", "").status());
  expect(agent().Stop("x", "", kGrace, false).status());
  expect(agent().Pause("x", "").status());
  expect(agent().Resume("x", "").status());
  expect(agent().Reboot("x", "").status());
  expect(agent().Delete("x", "", true, false));
  expect(agent().AttachConsole(std::string(100000, 'x')).status());
  EXPECT_OK(agent().Delete("x", "", true, true));
}

TEST_F(VmManagerTest, StartRunsTheVm) {
  ASSERT_OK(agent().Create(FakeHost::Params("a")));
  const int durable = host_.registry.durable_writes();
  ASSERT_OK_AND_ASSIGN(const VmView view, agent().Start("a", "1"));
  EXPECT_EQ(view.state, VmState::kRunning);
  EXPECT_EQ(view.boot_count, 1);
  ASSERT_TRUE(view.worker.has_value());
  EXPECT_EQ(view.worker->version, "0.1.0-fake");
  EXPECT_GT(view.worker->pid, 0);
  EXPECT_EQ(host_.registry.durable_writes(), durable + 1);
  EXPECT_EQ(host_.worker()->config().memory_bytes, 64u << 20);
  EXPECT_EQ(host_.worker()->config().command_line, "quiet");
  EXPECT_EQ(host_.stats.stats().starts, 1);
}

// A start that fails in whatever way leaves the VM as it was, and nothing of the worker.
TEST_F(VmManagerTest, EveryWayAStartFails) {
  using Behaviour = FakeWorker::Behaviour;
  host_.limits.bring_up = milliseconds(300);
  host_.StartAgent();
  ASSERT_OK(agent().Create(FakeHost::Params("a")));
  for (WorkerCall call : {WorkerCall::kHello, WorkerCall::kConfigure, WorkerCall::kStart})
    for (Behaviour::Kind kind : {Behaviour::kRefuse, Behaviour::kHang, Behaviour::kDie,
                                 Behaviour::kGarbage, Behaviour::kObeySilently}) {
      const VmView before = Get("a");
      host_.on_new_worker = [&](FakeWorker* worker) {
        worker->Script(call, {kind, WithReason(absl::InvalidArgumentError("bad"), "BAD_KERNEL")});
      };
      const absl::Status status = agent().Start("a", "").status();
      EXPECT_FALSE(status.ok());
      EXPECT_NE(ReasonOf(status), "");
      const std::string reason = ReasonOf(status);
      EXPECT_EQ(reason == "BAD_KERNEL", kind == Behaviour::kRefuse) << reason;
      EXPECT_EQ(reason == "WORKER_DIED", kind == Behaviour::kDie || kind == Behaviour::kGarbage)
          << reason;
      const VmView after = Get("a");
      EXPECT_EQ(after.state, VmState::kCreated);
      EXPECT_EQ(after.state_change_time, before.state_change_time);
      EXPECT_FALSE(after.worker.has_value());
      ExpectNothingLeft();
    }
  host_.on_new_worker = nullptr;
  host_.limits.bring_up = seconds(30);
  host_.StartAgent();
  EXPECT_OK(agent().Start("a", ""));
}

TEST_F(VmManagerTest, StartFailsWithTheHelper) {
  ASSERT_OK(agent().Create(FakeHost::Params("a")));
  host_.helper.SetError("Launch",
                        WithReason(absl::ResourceExhaustedError("x"), "WORKER_UIDS_EXHAUSTED"));
  ExpectError(agent().Start("a", "").status(), absl::StatusCode::kResourceExhausted,
              "WORKER_UIDS_EXHAUSTED");
  host_.helper.SetError("Launch", absl::OkStatus());
  host_.helper.SetGone(true);
  ExpectError(agent().Start("a", "").status(), absl::StatusCode::kUnavailable, "HELPER_GONE");
  host_.helper.SetGone(false);
  EXPECT_EQ(Get("a").state, VmState::kCreated);
  EXPECT_EQ(host_.stats.stats().start_failures["HELPER_GONE"], 1);
  EXPECT_OK(agent().Start("a", ""));
}

TEST_F(VmManagerTest, StartOnAFullDiskLeavesNothing) {
  ASSERT_OK(agent().Create(FakeHost::Params("a")));
  host_.registry.FailWrites(Full());
  const VmView before = Get("a");
  ExpectError(agent().Start("a", "").status(), absl::StatusCode::kResourceExhausted,
              "STATE_DIR_FULL");
  EXPECT_EQ(Get("a").generation, before.generation);
  EXPECT_EQ(Get("a").state, VmState::kCreated);
  ExpectNothingLeft();
  host_.registry.FailWrites(absl::OkStatus());
  EXPECT_OK(agent().Start("a", ""));
}

TEST_F(VmManagerTest, HelperThatDiesInAStartLeavesItsWorkerToTheJanitor) {
  ASSERT_OK(agent().Create(FakeHost::Params("a")));
  host_.on_new_worker = [&](FakeWorker* worker) {
    worker->Refuse(WorkerCall::kConfigure, absl::InvalidArgumentError("bad"));
    host_.helper.SetGone(true);
  };
  EXPECT_FALSE(agent().Start("a", "").ok());
  EXPECT_EQ(Get("a").state, VmState::kCreated);
  EXPECT_EQ(agent().remaining_orphans(), 1u);
  host_.helper.SetGone(false);
  EXPECT_TRUE(FakeHost::Eventually([&] { return agent().remaining_orphans() == 0; }));
  ExpectNothingLeft();
}

TEST_F(VmManagerTest, PauseResumeReboot) {
  host_.Run("a");
  EXPECT_EQ(agent().Pause("a", "")->state, VmState::kPaused);
  EXPECT_EQ(agent().Resume("a", "")->state, VmState::kRunning);
  EXPECT_EQ(agent().Reboot("a", "")->boot_count, 2);
  EXPECT_EQ(agent().Pause("a", "")->state, VmState::kPaused);
  ASSERT_OK_AND_ASSIGN(const VmView view, agent().Reboot("a", ""));
  EXPECT_EQ(view.state, VmState::kRunning);
  EXPECT_EQ(view.boot_count, 3);
}

TEST_F(VmManagerTest, BootsAddUpOverStarts) {
  host_.Run("a");
  ASSERT_OK(agent().Reboot("a", ""));
  ASSERT_OK(agent().Stop("a", "", kGrace, true));
  EXPECT_EQ(agent().Start("a", "")->boot_count, 3);
  host_.worker()->SendEvent({ReportedState::kRunning, "", "", 0});
  host_.worker()->SendEvent({ReportedState::kRunning, "", "", 0xffffffff});
  EXPECT_TRUE(FakeHost::Eventually([&] { return Get("a").boot_count == 0x7fffffff; }));
}

TEST_F(VmManagerTest, ConsoleAttaches) {
  host_.Run("a");
  ASSERT_OK_AND_ASSIGN(const ConsoleAttachment console, agent().AttachConsole("a"));
  EXPECT_EQ(console.lost_bytes, 7u);
  char text[64];
  EXPECT_EQ(recv(console.socket.get(), text, sizeof(text), 0), 21);
}

TEST_F(VmManagerTest, EtagsGuardEveryOperation) {
  const VmView view = host_.Run("a");
  const std::string good = absl::StrCat(view.generation);
  for (const std::string& stale : {std::string("1"), std::string("x"), good + " "}) {
    ExpectError(agent().Pause("a", stale).status(), absl::StatusCode::kAborted, "ETAG_MISMATCH");
    ExpectError(agent().Stop("a", stale, kGrace, true).status(), absl::StatusCode::kAborted,
                "ETAG_MISMATCH");
    ExpectError(agent().Delete("a", stale, true, true), absl::StatusCode::kAborted,
                "ETAG_MISMATCH");
  }
  EXPECT_OK(agent().Pause("a", good));
  ExpectError(agent().Resume("a", good).status(), absl::StatusCode::kAborted, "ETAG_MISMATCH");
}

TEST_F(VmManagerTest, GuestPowersOff) {
  host_.Run("a");
  host_.worker()->PowerOff();
  const VmView view = host_.Await("a", VmState::kStopped);
  EXPECT_EQ(view.state_reason, "GUEST_SHUTDOWN");
  EXPECT_FALSE(view.worker.has_value());
  EXPECT_EQ(view.boot_count, 1);
  ExpectNothingLeft();
  EXPECT_OK(agent().Start("a", ""));
}

TEST_F(VmManagerTest, GuestResets) {
  const VmView before = host_.Run("a");
  host_.worker()->Reset();
  EXPECT_TRUE(FakeHost::Eventually([&] { return Get("a").boot_count == 2; }));
  EXPECT_EQ(Get("a").state, VmState::kRunning);
  EXPECT_EQ(Get("a").state_change_time, before.state_change_time);
  EXPECT_EQ(Get("a").generation, before.generation);
}

TEST_F(VmManagerTest, MachineFails) {
  host_.Run("a");
  host_.worker()->Fail("TRIPLE_FAULT");
  const VmView view = host_.Await("a", VmState::kFailed);
  EXPECT_EQ(view.state_reason, "TRIPLE_FAULT");
  EXPECT_EQ(view.state_message, "it broke");
  EXPECT_TRUE(FakeHost::Eventually([&] { return host_.stats.stats().exits["TRIPLE_FAULT"] == 1; }));
  EXPECT_OK(agent().Start("a", ""));
}

TEST_F(VmManagerTest, WorkerDiesInRunningAndPaused) {
  host_.Run("a");
  host_.worker()->Die();
  EXPECT_EQ(host_.Await("a", VmState::kFailed).state_reason, "WORKER_DIED");
  ASSERT_OK(agent().Start("a", ""));
  ASSERT_OK(agent().Pause("a", ""));
  host_.worker()->Die();
  EXPECT_EQ(host_.Await("a", VmState::kFailed).state_reason, "WORKER_DIED");
  ExpectNothingLeft();
}

TEST_F(VmManagerTest, LastWordsTellWhatTheEventDidNot) {
  host_.Run("a");
  host_.worker()->EndQuietly({ReportedState::kFailed, "KVM_ERROR", "EFAULT", 1});
  EXPECT_EQ(host_.Await("a", VmState::kFailed).state_reason, "KVM_ERROR");
}

TEST_F(VmManagerTest, WorkerThatDiesInACall) {
  host_.Run("a");
  host_.worker()->Script(WorkerCall::kPause, {FakeWorker::Behaviour::kDie, {}});
  ExpectError(agent().Pause("a", "").status(), absl::StatusCode::kUnavailable, "WORKER_GONE");
  EXPECT_EQ(host_.Await("a", VmState::kFailed).state_reason, "WORKER_DIED");
}

TEST_F(VmManagerTest, WorkerThatMisbehavesIsNotKilled) {
  host_.Run("a");
  host_.worker()->Script(WorkerCall::kPause, {FakeWorker::Behaviour::kGarbage, {}});
  EXPECT_FALSE(agent().Pause("a", "").ok());
  host_.worker()->Script(WorkerCall::kPause, {});
  EXPECT_TRUE(FakeHost::Eventually([&] { return agent().Pause("a", "").ok(); }));
  EXPECT_THAT(host_.helper.living(), SizeIs(1));
}

TEST_F(VmManagerTest, SilentWorkerBecomesUnknownAndComesBack) {
  host_.limits.call = host_.limits.join = milliseconds(100);
  host_.StartAgent();
  host_.Run("a");
  host_.worker()->Hang(WorkerCall::kPause);
  host_.worker()->Hang(WorkerCall::kHello);
  ExpectError(agent().Pause("a", "").status(), absl::StatusCode::kUnavailable,
              "WORKER_UNRESPONSIVE");
  EXPECT_EQ(host_.Await("a", VmState::kUnknown).state_reason, "WORKER_UNRESPONSIVE");
  ExpectError(agent().Pause("a", "").status(), absl::StatusCode::kFailedPrecondition,
              "WRONG_STATE");
  EXPECT_THAT(host_.helper.living(), SizeIs(1));
  host_.worker()->Script(WorkerCall::kHello, {});
  EXPECT_EQ(host_.Await("a", VmState::kRunning).state_reason, "");
}

TEST_F(VmManagerTest, StopByPowerButton) {
  host_.Run("a");
  host_.worker()->set_obeys_power_button(true);
  ASSERT_OK_AND_ASSIGN(const VmView view, agent().Stop("a", "", kGrace, false));
  EXPECT_EQ(view.state, VmState::kStopped);
  EXPECT_EQ(view.state_reason, "GUEST_SHUTDOWN");
  ExpectNothingLeft();
}

TEST_F(VmManagerTest, StopOfAPausedGuestLetsItPowerOff) {
  host_.Run("a");
  ASSERT_OK(agent().Pause("a", ""));
  host_.worker()->set_obeys_power_button(true);
  EXPECT_EQ(agent().Stop("a", "", kGrace, false)->state_reason, "GUEST_SHUTDOWN");
}

TEST_F(VmManagerTest, StopOfAGuestThatDoesNotListenYetPressesAgain) {
  host_.Run("a");
  host_.worker()->Refuse(WorkerCall::kPowerButton, absl::FailedPreconditionError("no ACPI"));
  host_.worker()->set_obeys_power_button(true);
  std::thread booted([this] {
    std::this_thread::sleep_for(milliseconds(600));
    host_.worker()->Script(WorkerCall::kPowerButton, {});
  });
  EXPECT_EQ(agent().Stop("a", "", kGrace, false)->state_reason, "GUEST_SHUTDOWN");
  booted.join();
  ExpectNothingLeft();
}

TEST_F(VmManagerTest, StopOfAGuestThatNeverListensWaitsForItsGrace) {
  host_.Run("a");
  host_.worker()->Refuse(WorkerCall::kPowerButton, absl::FailedPreconditionError("no ACPI"));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(agent().Stop("a", "", milliseconds(400), false)->state_reason, "STOP_REQUESTED");
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(400));
  ExpectNothingLeft();
}

TEST_F(VmManagerTest, StopAfterGrace) {
  host_.Run("a");
  ASSERT_OK_AND_ASSIGN(const VmView view, agent().Stop("a", "", milliseconds(50), false));
  EXPECT_EQ(view.state, VmState::kStopped);
  EXPECT_EQ(view.state_reason, "STOP_REQUESTED");
}

TEST_F(VmManagerTest, StopKillsWhoDoesNotAnswer) {
  host_.limits.stop_call = milliseconds(50);
  host_.StartAgent();
  host_.Run("a");
  host_.worker()->Hang(WorkerCall::kStop);
  ASSERT_OK_AND_ASSIGN(const VmView view, agent().Stop("a", "", kGrace, true));
  EXPECT_EQ(view.state, VmState::kStopped);
  EXPECT_EQ(view.state_reason, "STOP_FORCED");
  ExpectNothingLeft();
}

TEST_F(VmManagerTest, SlowWorkerIsNotKilledInItsGrace) {
  host_.limits.call = milliseconds(50);
  host_.limits.stop_call = milliseconds(50);
  host_.StartAgent();
  host_.Run("a");
  host_.worker()->Hang(WorkerCall::kPowerButton);
  host_.worker()->Hang(WorkerCall::kStop);
  std::thread stop([&] { EXPECT_OK(agent().Stop("a", "", kGrace, false)); });
  host_.Await("a", VmState::kStopping);
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_THAT(host_.helper.living(), SizeIs(1));
  EXPECT_EQ(Get("a").state, VmState::kStopping);
  EXPECT_EQ(agent().Stop("a", "", kGrace, true)->state, VmState::kStopped);  // and now by force
  stop.join();
}

TEST_F(VmManagerTest, ACancelledStopReturnsAtOnceAndGoesOn) {
  host_.Run("a");
  std::atomic<bool> cancelled{false};
  std::thread client([&] {
    const absl::Status status =
        agent().Stop("a", "", kGrace, false, [&] { return cancelled.load(); }).status();
    ExpectError(status, absl::StatusCode::kCancelled, "STOP_GOES_ON");
  });
  host_.Await("a", VmState::kStopping);
  cancelled = true;
  client.join();
  EXPECT_EQ(Get("a").state, VmState::kStopping);
  host_.worker()->PowerOff();
  EXPECT_EQ(host_.Await("a", VmState::kStopped).state_reason, "GUEST_SHUTDOWN");
}

TEST_F(VmManagerTest, OnlySoManyStopsWait) {
  host_.limits.waiting_stops = 1;
  host_.StartAgent();
  host_.Run("a");
  host_.Run("b");
  std::thread waits([&] { EXPECT_OK(agent().Stop("a", "", kGrace, false)); });
  host_.Await("a", VmState::kStopping);
  const absl::Status refused = agent().Stop("b", "", kGrace, false).status();
  ExpectError(refused, absl::StatusCode::kResourceExhausted, "TOO_MANY_STOPS");
  EXPECT_EQ(RetryDelay(refused), seconds(1));
  EXPECT_EQ(Get("b").state, VmState::kRunning);
  EXPECT_OK(agent().Stop("a", "", kGrace, true));
  waits.join();
  EXPECT_OK(agent().Stop("b", "", milliseconds(1), false));
}

TEST_F(VmManagerTest, StopGraceIsBounded) {
  host_.Run("a");
  EXPECT_EQ(FieldOf(agent().Stop("a", "", seconds(-1), false).status()), "grace");
  EXPECT_EQ(FieldOf(agent().Stop("a", "", seconds(3601), false).status()), "grace");
}

TEST_F(VmManagerTest, StopOnAFullDiskIsRecordedLater) {
  for (const bool force : {false, true}) {
    const std::string id = force ? "forced" : "asked";
    host_.Run(id);
    host_.worker()->set_obeys_power_button(true);
    host_.registry.FailWrites(Full());
    ASSERT_OK_AND_ASSIGN(const VmView view, agent().Stop(id, "", kGrace, force));
    EXPECT_EQ(view.state, VmState::kStopped);
    EXPECT_THAT(host_.helper.living(), IsEmpty());
    EXPECT_THAT(host_.helper.instances(), SizeIs(1));  // its last words, for the next agent
    ExpectError(agent().Start(id, "").status(), absl::StatusCode::kResourceExhausted,
                "STATE_DIR_FULL");
    host_.registry.FailWrites(absl::OkStatus());
    EXPECT_TRUE(FakeHost::Eventually([&] { return host_.helper.instances().empty(); }));
    EXPECT_EQ(host_.registry.Load()->back().state, VmState::kStopped);
    EXPECT_OK(agent().Delete(id, "", false, false));
  }
}

TEST_F(VmManagerTest, StartAfterAStopOnAFullDisk) {
  host_.Run("a");
  host_.registry.FailWrites(Full());
  ASSERT_OK(agent().Stop("a", "", kGrace, true));
  host_.registry.FailWrites(absl::OkStatus());
  EXPECT_EQ(agent().Start("a", "")->state, VmState::kRunning);
  EXPECT_TRUE(FakeHost::Eventually([&] { return host_.helper.instances().size() == 1; }));
  EXPECT_EQ(host_.helper.living(), host_.helper.instances());
}

TEST_F(VmManagerTest, AStopOnAFullDiskIsKnownToTheNextAgent) {
  host_.Run("a");
  host_.registry.FailWrites(Full());
  ASSERT_OK(agent().Stop("a", "", kGrace, true));
  host_.CrashAgentAt(1);
  host_.registry.FailWrites(absl::OkStatus());
  host_.StartAgent();
  EXPECT_EQ(Get("a").state, VmState::kStopped);
  EXPECT_EQ(Get("a").state_reason, "STOP_REQUESTED");
  ExpectNothingLeft();
}

TEST_F(VmManagerTest, ExitOnAFullDiskIsRecordedLater) {
  host_.Run("a");
  host_.registry.FailWrites(Full());
  host_.worker()->PowerOff();
  EXPECT_EQ(host_.Await("a", VmState::kStopped).state_reason, "GUEST_SHUTDOWN");
  host_.registry.FailWrites(absl::OkStatus());
  EXPECT_TRUE(FakeHost::Eventually(
      [&] { return host_.registry.Load()->at(0).state == VmState::kStopped; }));
}

TEST_F(VmManagerTest, MachineEndedAndWorkerLingers) {
  host_.limits.linger = milliseconds(50);
  host_.limits.stop_call = milliseconds(50);
  host_.StartAgent();
  host_.Run("a");
  host_.worker()->Hang(WorkerCall::kStop);
  host_.worker()->SendEvent({ReportedState::kFailed, "TRIPLE_FAULT", "", 1});
  EXPECT_EQ(host_.Await("a", VmState::kFailed).state_reason, "TRIPLE_FAULT");
  ExpectNothingLeft();
}

TEST_F(VmManagerTest, DeleteAtRest) {
  ASSERT_OK(agent().Create(FakeHost::Params("a")));
  ASSERT_OK(agent().Delete("a", "", false, false));
  ExpectError(agent().Get("a").status(), absl::StatusCode::kNotFound, "VM_NOT_FOUND");
  EXPECT_THAT(host_.registry.Load(), IsOkAndHolds(IsEmpty()));
  EXPECT_OK(agent().Delete("a", "", false, true));
}

TEST_F(VmManagerTest, DeleteOfARunningVmNeedsForce) {
  host_.Run("a");
  ExpectError(agent().Delete("a", "", false, false), absl::StatusCode::kFailedPrecondition,
              "WRONG_STATE");
  ASSERT_OK(agent().Delete("a", "", true, false));
  EXPECT_THAT(host_.registry.Load(), IsOkAndHolds(IsEmpty()));
  ExpectNothingLeft();
}

TEST_F(VmManagerTest, DeleteOnAFullDiskEndsTheGuestAndGoesOnLater) {
  host_.Run("a");
  host_.registry.FailWrites(Full());
  const absl::Status status = agent().Delete("a", "", true, false);
  ExpectError(status, absl::StatusCode::kResourceExhausted, "STATE_DIR_FULL");
  EXPECT_THAT(std::string(status.message()), HasSubstr("has been ended"));
  EXPECT_THAT(host_.helper.living(), IsEmpty());
  host_.registry.FailWrites(absl::OkStatus());
  EXPECT_TRUE(FakeHost::Eventually([&] { return !agent().Get("a").ok(); }));
  EXPECT_THAT(host_.registry.Load(), IsOkAndHolds(IsEmpty()));
  ExpectNothingLeft();
}

TEST_F(VmManagerTest, AGuestThatBootsOverAndOverKeepsItsEtag) {
  const VmView before = host_.Run("a");
  for (int i = 0; i < 5; ++i) host_.worker()->Reset();
  EXPECT_TRUE(FakeHost::Eventually([&] { return Get("a").boot_count == 6; }));
  EXPECT_EQ(Get("a").generation, before.generation);
  EXPECT_TRUE(FakeHost::Eventually([&] { return host_.registry.Load()->at(0).boot_count == 6; }));
  EXPECT_OK(agent().Pause("a", std::to_string(before.generation)));
  EXPECT_GT(Get("a").generation, before.generation);
}

TEST_F(VmManagerTest, AWorkerThatItsJailKilledIsToldFromOneThatDied) {
  host_.Run("a");
  const std::string instance = *host_.helper.living().begin();
  host_.helper.EndWorker(instance, "", ProcessEnd{.signal = SIGSYS});
  EXPECT_EQ(host_.Await("a", VmState::kFailed).state_reason, "JAIL_VIOLATION");
  ASSERT_OK(agent().Start("a", ""));
  host_.helper.EndWorker(*host_.helper.living().begin(), "", ProcessEnd{.signal = SIGKILL});
  EXPECT_EQ(host_.Await("a", VmState::kFailed).state_reason, "WORKER_DIED");
}

TEST_F(VmManagerTest, DeleteThatCannotFinishGoesOnLater) {
  host_.Run("a");
  host_.registry.FailWritesAfter(2, Full());  // the mark, and the end, but not the removal
  EXPECT_FALSE(agent().Delete("a", "", true, false).ok());
  ExpectError(agent().Start("a", "").status(), absl::StatusCode::kFailedPrecondition,
              "WRONG_STATE");
  host_.registry.FailWrites(absl::OkStatus());
  EXPECT_TRUE(FakeHost::Eventually([&] { return !agent().Get("a").ok(); }));
  EXPECT_THAT(host_.registry.Load(), IsOkAndHolds(IsEmpty()));
}

TEST_F(VmManagerTest, RacingDeletesAndCreatesNeverLoseTheNewVm) {
  for (int round = 0; round < 20; ++round) {
    ASSERT_OK(agent().Create(FakeHost::Params("a")));
    const std::string old_uid = Get("a").uid;
    std::vector<std::thread> threads;
    std::atomic<int> created{0};
    std::atomic<int> deleted{0};
    for (int i = 0; i < 3; ++i)
      threads.emplace_back([&] { deleted += agent().Delete("a", "1", true, false).ok(); });
    threads.emplace_back([&] {
      FakeHost::Eventually([&] { return agent().Create(FakeHost::Params("a")).ok(); });
      ++created;
    });
    for (std::thread& thread : threads) thread.join();
    // Whoever found the new VM by its id may have deleted it; nobody who came for the old one did.
    const auto records = *host_.registry.Load();
    EXPECT_EQ(records.size(), agent().Snapshot().size());
    EXPECT_EQ(static_cast<int>(records.size()), 2 - deleted);
    for (const VmRecord& record : records) EXPECT_NE(record.uid, old_uid);
    EXPECT_OK(agent().Delete("a", "", true, true));
  }
}

TEST_F(VmManagerTest, OneOperationAtATime) {
  host_.limits.operation_wait = milliseconds(50);
  host_.limits.reset = seconds(2);
  host_.StartAgent();
  host_.Run("a");
  host_.worker()->Hang(WorkerCall::kReset);
  std::thread reboot([&] { EXPECT_FALSE(agent().Reboot("a", "").ok()); });
  EXPECT_TRUE(
      FakeHost::Eventually([&] { return host_.worker()->calls().back() == WorkerCall::kReset; }));
  const absl::Status status = agent().Pause("a", "").status();
  ExpectError(status, absl::StatusCode::kAborted, "OPERATION_IN_PROGRESS");
  EXPECT_TRUE(RetryDelay(status).has_value());
  EXPECT_EQ(Get("a").id, "a");  // reads do not wait
  reboot.join();
}

// Every operation in every state that a VM can be put into.
TEST_F(VmManagerTest, EveryOperationInEveryState) {
  host_.limits.join = milliseconds(50);
  host_.limits.stop_call = milliseconds(50);
  host_.StartAgent();
  const std::map<VmState, std::function<void()>> prepare = {
      {VmState::kCreated, [&] { ASSERT_OK(agent().Create(FakeHost::Params("a"))); }},
      {VmState::kRunning, [&] { host_.Run("a"); }},
      {VmState::kPaused,
       [&] {
         host_.Run("a");
         ASSERT_OK(agent().Pause("a", ""));
       }},
      {VmState::kStopped,
       [&] {
         host_.Run("a");
         ASSERT_OK(agent().Stop("a", "", kGrace, true));
       }},
      {VmState::kFailed,
       [&] {
         host_.Run("a");
         host_.worker()->Die();
       }},
      {VmState::kUnknown,
       [&] {
         host_.Run("a");
         host_.worker()->Hang(WorkerCall::kHello);
         host_.worker()->Disconnect(false);
       }},
  };
  const auto run = [&](VmOperation operation) -> absl::Status {
    switch (operation) {
      case VmOperation::kStart:
        return agent().Start("a", "").status();
      case VmOperation::kStop:
        return agent().Stop("a", "", milliseconds(10), false).status();
      case VmOperation::kPause:
        return agent().Pause("a", "").status();
      case VmOperation::kResume:
        return agent().Resume("a", "").status();
      case VmOperation::kReboot:
        return agent().Reboot("a", "").status();
      case VmOperation::kDelete:
        return agent().Delete("a", "", false, false);
      case VmOperation::kDeleteForce:
        return agent().Delete("a", "", true, false);
      case VmOperation::kAttachConsole:
        return agent().AttachConsole("a").status();
    }
    return absl::OkStatus();
  };
  for (const auto& [state, make] : prepare)
    for (int i = 0; i < kVmOperations; ++i) {
      const VmOperation operation = static_cast<VmOperation>(i);
      SCOPED_TRACE(absl::StrCat(VmStateName(state), " ", VmOperationName(operation)));
      make();
      ASSERT_EQ(host_.Await("a", state).state, state);
      const absl::Status status = run(operation);
      if (IsAllowed(state, operation)) {
        EXPECT_OK(status);
      } else {
        ExpectError(status, absl::StatusCode::kFailedPrecondition, "WRONG_STATE");
        EXPECT_EQ(Get("a").state, state);
      }
      ASSERT_OK(agent().Delete("a", "", true, true));
      ExpectNothingLeft();
    }
}

TEST_F(VmManagerTest, ManyThreadsDoAnything) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t)
    threads.emplace_back([&, t] {
      std::minstd_rand random(t);
      for (int i = 0; i < 60; ++i) {
        const std::string id(1, static_cast<char>('a' + random() % 3));
        switch (random() % 8) {
          case 0:
            (void)agent().Create(FakeHost::Params(id));
            break;
          case 1:
          case 2:
            (void)agent().Start(id, "");
            break;
          case 3:
            (void)agent().Stop(id, "", milliseconds(random() % 20), random() % 2);
            break;
          case 4:
            (void)agent().Pause(id, "");
            break;
          case 5:
            (void)agent().Resume(id, "");
            break;
          case 6:
            (void)agent().Delete(id, "", random() % 2, false);
            break;
          case 7:
            (void)agent().List(2, "");
            break;
        }
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const char* id : {"a", "b", "c"}) EXPECT_OK(agent().Delete(id, "", true, true));
  ExpectNothingLeft();
  EXPECT_THAT(host_.registry.Load(), IsOkAndHolds(IsEmpty()));
}

}  // namespace
}  // namespace drover
