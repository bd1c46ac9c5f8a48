#include <chrono>
#include <string>
#include <thread>

#include "agent/vms/fake_host.h"
#include "agent/vms/vm_manager.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr seconds kGrace(3000);

class VmAdoptionTest : public ::testing::Test {
 protected:
  VmAdoptionTest() { host_.StartAgent(); }
  VmView Get(const std::string& id) { return *host_.agent().Get(id); }
  VmRecord Stored() { return host_.registry.Load()->at(0); }
  void Store(const VmRecord& record) {
    ASSERT_OK(host_.registry.Put(record, Durability::kDurable));
  }
  // The agent dies: its destructor has no effect either.
  void KillAgent() { host_.CrashAgentAt(1); }
  int64_t Adoptions(AdoptionResult result) { return host_.stats.stats().adoptions[result]; }

  FakeHost host_;
};

TEST_F(VmAdoptionTest, RunningAndPausedGoOnUnchanged) {
  host_.Run("a");
  host_.Run("b");
  ASSERT_OK(host_.agent().Pause("b", ""));
  const VmView a = Get("a");
  const VmView b = Get("b");
  KillAgent();
  host_.StartAgent();
  for (const VmView& before : {a, b}) {
    const VmView after = Get(before.id);
    EXPECT_EQ(after.state, before.state);
    EXPECT_EQ(after.generation, before.generation);
    EXPECT_EQ(after.state_change_time, before.state_change_time);
    EXPECT_EQ(after.boot_count, before.boot_count);
    EXPECT_EQ(after.uid, before.uid);
    ASSERT_TRUE(after.worker.has_value());
    EXPECT_EQ(after.worker->pid, before.worker->pid);
  }
  EXPECT_EQ(Adoptions(AdoptionResult::kAdopted), 2);
  EXPECT_OK(host_.agent().AttachConsole("a"));
  EXPECT_EQ(host_.agent().Resume("b", "")->state, VmState::kRunning);
  EXPECT_EQ(host_.agent().Reboot("b", "")->boot_count, 2);
  host_.WorkerOf(Stored().instance_id)->PowerOff();
  EXPECT_EQ(host_.Await("a", VmState::kStopped).state_reason, "GUEST_SHUTDOWN");
}

TEST_F(VmAdoptionTest, WhatTheWorkerDidMeanwhileIsLearned) {
  host_.Run("a");
  KillAgent();
  host_.worker()->Reset();
  EXPECT_TRUE(FakeHost::Eventually([&] { return host_.worker()->report().boot_count == 2; }));
  host_.StartAgent();
  EXPECT_EQ(Get("a").boot_count, 2);
}

TEST_F(VmAdoptionTest, EndsAreReportedWithTheirReasons) {
  host_.Run("a");
  const std::string a = host_.worker() ? Stored().instance_id : "";
  KillAgent();
  host_.WorkerOf(a)->Fail("EMULATION_FAILED");
  EXPECT_TRUE(FakeHost::Eventually([&] { return host_.helper.living().empty(); }));
  host_.StartAgent();
  EXPECT_EQ(Get("a").state, VmState::kFailed);
  EXPECT_EQ(Get("a").state_reason, "EMULATION_FAILED");
  EXPECT_EQ(Adoptions(AdoptionResult::kGone), 1);
  EXPECT_THAT(host_.helper.instances(), IsEmpty());
}

TEST_F(VmAdoptionTest, EndWithoutLastWords) {
  host_.Run("a");
  KillAgent();
  host_.worker()->Die();
  EXPECT_TRUE(FakeHost::Eventually([&] { return host_.helper.living().empty(); }));
  host_.StartAgent();
  EXPECT_EQ(Get("a").state_reason, "WORKER_DIED");
}

TEST_F(VmAdoptionTest, HostThatLostPower) {
  host_.Run("a");
  VmRecord record = Stored();
  record.instance_id = "never-heard-of";
  KillAgent();
  Store(record);
  host_.StartAgent();
  EXPECT_EQ(Get("a").state, VmState::kFailed);
  EXPECT_EQ(Get("a").state_reason, "WORKER_DIED");
  EXPECT_THAT(host_.helper.instances(), IsEmpty());  // the other one belongs to no VM
}

TEST_F(VmAdoptionTest, WhatIsAnsweredIsDurable) {
  host_.Run("a");
  KillAgent();
  host_.registry.LosePower();
  EXPECT_EQ(Stored().state, VmState::kStarting);
  EXPECT_NE(Stored().instance_id, "");
}

TEST_F(VmAdoptionTest, SilentWorkersAreUnknownRetriedAndNeverKilled) {
  host_.Run("a");
  host_.worker()->Hang(WorkerCall::kHello);
  KillAgent();
  host_.limits.join = milliseconds(50);
  host_.StartAgent();
  EXPECT_EQ(Get("a").state, VmState::kUnknown);
  EXPECT_EQ(Get("a").state_reason, "WORKER_UNRESPONSIVE");
  EXPECT_EQ(Adoptions(AdoptionResult::kUnknown), 1);
  EXPECT_THAT(host_.helper.living(), SizeIs(1));
  host_.worker()->Script(WorkerCall::kHello, {});
  EXPECT_EQ(host_.Await("a", VmState::kRunning).state, VmState::kRunning);
  EXPECT_TRUE(FakeHost::Eventually([&] { return Adoptions(AdoptionResult::kAdopted) == 1; }));
  EXPECT_THAT(host_.helper.calls(), Not(Contains("Kill " + Stored().instance_id)));
}

TEST_F(VmAdoptionTest, AWorkerThatFallsSilentIsUnknownUntilItAnswers) {
  host_.limits.ping_period = milliseconds(20);
  host_.limits.ping = seconds(1);
  host_.limits.join = milliseconds(50);
  host_.StartAgent();
  host_.Run("a");
  ASSERT_OK(host_.agent().Pause("a", ""));
  host_.worker()->Hang(WorkerCall::kHello);
  EXPECT_EQ(host_.Await("a", VmState::kUnknown).state_reason, "WORKER_UNRESPONSIVE");
  EXPECT_THAT(host_.helper.living(), SizeIs(1));
  host_.worker()->Script(WorkerCall::kHello, {});
  EXPECT_EQ(host_.Await("a", VmState::kPaused).state, VmState::kPaused);
}

TEST_F(VmAdoptionTest, AWorkerThatIsBusyIsNotTakenForSilent) {
  host_.limits.ping_period = milliseconds(5);
  host_.limits.ping = milliseconds(20);
  host_.limits.reset = milliseconds(500);
  host_.StartAgent();
  host_.Run("a");
  host_.worker()->Hang(WorkerCall::kReset);
  const absl::Status status = host_.agent().Reboot("a", "").status();
  EXPECT_EQ(ReasonOf(status), "WORKER_UNRESPONSIVE") << status;  // after all of its own limit
}

TEST_F(VmAdoptionTest, AdoptionIsBounded) {
  host_.Run("a");
  const VmView before = Get("a");
  host_.worker()->Hang(WorkerCall::kHello);
  KillAgent();
  host_.limits.adoption = milliseconds(100);
  host_.StartAgent();
  EXPECT_EQ(Get("a").state, VmState::kUnknown);
  EXPECT_EQ(Get("a").state_reason, "ADOPTING");
  host_.worker()->Script(WorkerCall::kHello, {});
  host_.worker()->Disconnect(false);  // it ends the call that hangs
  EXPECT_EQ(host_.Await("a", VmState::kRunning).uid, before.uid);
}

TEST_F(VmAdoptionTest, AnotherWorkerIsNotTaken) {
  host_.Run("a");
  host_.worker()->set_instance_id("somebody-else");
  KillAgent();
  host_.StartAgent();
  EXPECT_EQ(Get("a").state, VmState::kUnknown);
  EXPECT_EQ(Get("a").state_reason, "WORKER_MISMATCH");
  EXPECT_THAT(host_.helper.living(), SizeIs(1));
}

TEST_F(VmAdoptionTest, HelperThatCannotTellLeavesItUnknown) {
  host_.Run("a");
  KillAgent();
  host_.helper.SetError("Adopt", absl::InternalError("no /proc"));
  host_.StartAgent();
  EXPECT_EQ(Get("a").state, VmState::kUnknown);
  host_.helper.SetError("Adopt", absl::OkStatus());
  EXPECT_EQ(host_.Await("a", VmState::kRunning).state, VmState::kRunning);
}

TEST_F(VmAdoptionTest, UnknownVmsCanBeStoppedOnRequest) {
  host_.Run("a");
  KillAgent();
  host_.helper.SetError("Adopt", absl::InternalError("no /proc"));
  host_.StartAgent();
  ASSERT_OK_AND_ASSIGN(const VmView view, host_.agent().Stop("a", "", kGrace, true));
  EXPECT_EQ(view.state, VmState::kStopped);
  EXPECT_EQ(view.state_reason, "STOP_FORCED");
  EXPECT_THAT(host_.helper.instances(), IsEmpty());
}

TEST_F(VmAdoptionTest, StopGoesOnWithItsDeadline) {
  host_.Run("a");
  VmRecord record = Stored();
  KillAgent();
  record.state = VmState::kStopping;
  record.stop_deadline = SystemClock().UnixNanos() + 200 * 1000 * 1000;
  Store(record);
  host_.StartAgent();
  const VmView view = host_.Await("a", VmState::kStopped);
  EXPECT_EQ(view.state_reason, "STOP_REQUESTED");
  EXPECT_THAT(host_.helper.instances(), IsEmpty());
}

TEST_F(VmAdoptionTest, StopWithinItsGraceIsLeftAlone) {
  host_.Run("a");
  VmRecord record = Stored();
  KillAgent();
  record.state = VmState::kStopping;
  record.stop_deadline = SystemClock().UnixNanos() + 3600LL * 1000 * 1000 * 1000;
  Store(record);
  host_.StartAgent();
  EXPECT_EQ(Get("a").state, VmState::kStopping);
  EXPECT_EQ(Get("a").generation, record.generation);
  host_.worker()->PowerOff();
  EXPECT_EQ(host_.Await("a", VmState::kStopped).state_reason, "GUEST_SHUTDOWN");
}

TEST_F(VmAdoptionTest, DeleteGoesOn) {
  host_.Run("a");
  VmRecord record = Stored();
  KillAgent();
  record.deleting = true;
  Store(record);
  host_.StartAgent();
  EXPECT_THAT(host_.agent().Snapshot(), IsEmpty());
  EXPECT_THAT(host_.registry.Load(), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(host_.helper.instances(), IsEmpty());
}

TEST_F(VmAdoptionTest, StartThatNeverRanIsUndone) {
  ASSERT_OK(host_.agent().Create(FakeHost::Params("a")));
  VmRecord record = Stored();
  KillAgent();
  record.state = VmState::kStarting;
  record.instance_id = "half-made";
  Store(record);
  ASSERT_OK(host_.helper.Launch({.instance_id = "half-made"}));
  host_.StartAgent();
  EXPECT_EQ(Get("a").state, VmState::kCreated);
  EXPECT_EQ(Get("a").state_reason, "START_INTERRUPTED");
  EXPECT_THAT(host_.helper.instances(), IsEmpty());
  EXPECT_EQ(Adoptions(AdoptionResult::kInterrupted), 1);
  EXPECT_OK(host_.agent().Start("a", ""));
}

TEST_F(VmAdoptionTest, WorkersOfNoVmAreRemoved) {
  host_.Run("a");
  const std::string mine = Stored().instance_id;
  KillAgent();
  ASSERT_OK(host_.helper.AddWorker("orphan"));
  ASSERT_OK(host_.helper.AddWorker("dead-orphan"));
  host_.helper.EndWorker("dead-orphan", "");
  host_.StartAgent();
  EXPECT_THAT(host_.helper.instances(), ElementsAre(mine));
}

TEST_F(VmAdoptionTest, ManyVms) {
  host_.host.memory_mib = 1 << 20;
  host_.host.max_vms = 1000;
  host_.StartAgent();
  for (int i = 0; i < 60; ++i) host_.Run("vm" + std::to_string(i));
  KillAgent();
  host_.StartAgent();
  for (const VmView& view : host_.agent().Snapshot()) EXPECT_EQ(view.state, VmState::kRunning);
  EXPECT_EQ(Adoptions(AdoptionResult::kAdopted), 60);
}

}  // namespace
}  // namespace drover
