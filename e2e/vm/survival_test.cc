// The agent dies at any moment; guests do not, and the next agent finds them.
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "e2e/harness/vm_fixture.h"
#include "vmm/base/fd.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::HasSubstr;

class SurvivalTest : public VmFixture {
 protected:
  // The number of the last "tick N" line.
  static int LastTick(const std::string& output) {
    const size_t at = output.rfind("\ntick ", output.rfind('\n') - 1);
    int tick = -1;
    if (at != std::string::npos)
      (void)absl::SimpleAtoi(output.substr(at + 6, output.find('\n', at + 6) - at - 6), &tick);
    return tick;
  }

  // Processes whose parent is `pid`.
  static int ChildrenOf(pid_t pid) {
    std::ifstream in(absl::StrCat("/proc/", pid, "/task/", pid, "/children"));
    int count = 0;
    for (int child; in >> child;) ++count;
    return count;
  }
};

TEST_F(SurvivalTest, TheGuestCountsOnAndTheNextAgentFindsIt) {
  CreateGuest("counter", "do=ticks,on,ms=50");
  const v1::Vm before = StartVm("counter");
  {
    auto console = Console("counter");
    ASSERT_OK(console->Expect("tick 5\n"));
  }
  EXPECT_GT(ChildrenOf(agent_->pid()), 0);  // the helper
  KillAgent();
  EXPECT_EQ(kill(before.worker().pid(), 0), 0) << "the worker died with the agent";
  StartAgent();
  const v1::Vm after = Get("counter");
  EXPECT_EQ(after.state(), v1::VM_STATE_RUNNING);
  EXPECT_EQ(after.worker().pid(), before.worker().pid());
  EXPECT_EQ(after.uid(), before.uid());
  EXPECT_EQ(after.boot_count(), 1);
  EXPECT_EQ(after.state_change_time().seconds(), before.state_change_time().seconds());
  auto console = Console("counter");
  ASSERT_OK(console->Expect("hello from drover test guest"));  // replayed
  const int tick = LastTick(console->Output());
  EXPECT_GE(tick, 5);
  ASSERT_OK(console->Expect(absl::StrCat("tick ", tick + 3, "\n")));
}

TEST_F(SurvivalTest, APausedGuestIsFoundPaused) {
  CreateGuest("quiet");
  StartVm("quiet");
  grpc::ClientContext context;
  v1::PauseVmRequest request;
  request.set_vm_id("quiet");
  v1::Vm vm;
  ASSERT_TRUE(vms_->PauseVm(&context, request, &vm).ok());
  KillAgent();
  StartAgent();
  EXPECT_EQ(Get("quiet").state(), v1::VM_STATE_PAUSED);
}

TEST_F(SurvivalTest, WhatEndedMeanwhileIsReportedWithItsReason) {
  CreateGuest("off", "do=sleep,ms=1500 do=poweroff");
  CreateGuest("killed");
  const v1::Vm off = StartVm("off");
  const v1::Vm killed = StartVm("killed");
  KillAgent();
  ASSERT_EQ(kill(killed.worker().pid(), SIGKILL), 0);
  EXPECT_TRUE(Eventually([&] { return kill(off.worker().pid(), 0) != 0; }));
  StartAgent();
  EXPECT_EQ(Get("off").state(), v1::VM_STATE_STOPPED);
  EXPECT_EQ(Get("off").state_reason(), "GUEST_SHUTDOWN");
  EXPECT_EQ(Get("killed").state(), v1::VM_STATE_FAILED);
  EXPECT_EQ(Get("killed").state_reason(), "WORKER_DIED");
  EXPECT_TRUE(Eventually([&] { return home_.WorkerDirectories().empty(); }));
}

TEST_F(SurvivalTest, AKillAtAnyMomentOfAStartLosesNothing) {
  const int rounds = getenv("DROVER_LINUX") == nullptr ? 12 : 4;  // the emulated machine is slow
  for (int i = 0; i < rounds; ++i) {
    const std::string id = absl::StrCat("k", i);
    CreateGuest(id);
    std::thread starter([&] {
      grpc::ClientContext context;
      v1::StartVmRequest request;
      request.set_vm_id(id);
      v1::Vm vm;
      vms_->StartVm(&context, request, &vm);
    });
    std::this_thread::sleep_for(std::chrono::microseconds(4800 / rounds * i));
    KillAgent();
    starter.join();
    StartAgent();
    const v1::Vm vm = Get(id);
    EXPECT_TRUE(vm.state() == v1::VM_STATE_RUNNING || vm.state() == v1::VM_STATE_CREATED)
        << vm.ShortDebugString();
    if (vm.state() == v1::VM_STATE_CREATED) StartVm(id);
    EXPECT_OK(Console(id)->Expect("ready\n"));
    ForceDelete(id);
  }
  EXPECT_TRUE(Eventually([&] { return home_.WorkerDirectories().empty(); }));
}

TEST_F(SurvivalTest, ADirectoryThatNobodyNamesIsCleared) {
  CreateGuest("orphan");
  const v1::Vm vm = StartVm("orphan");
  KillAgent();
  // The registry forgets the VM, as if it had been restored from before.
  for (const char* name : {"/registry.db", "/registry.db-wal", "/registry.db-shm"})
    unlink((home_.state_dir() + name).c_str());
  StartAgent();
  EXPECT_TRUE(Eventually([&] { return kill(vm.worker().pid(), 0) != 0; }));
  EXPECT_TRUE(Eventually([&] { return home_.WorkerDirectories().empty(); }));
}

TEST_F(SurvivalTest, ASecondAgentOnTheSameStateIsRefused) {
  const AgentHome other;
  const auto second = AgentProcess::Start(other, {"--state-dir=" + home_.state_dir()});
  EXPECT_THAT(second, StatusIs(absl::StatusCode::kInternal, HasSubstr("is in use by")));
  CreateGuest("fine");
  EXPECT_EQ(StartVm("fine").state(), v1::VM_STATE_RUNNING);
}

TEST_F(SurvivalTest, ATerminatedAgentEndsWellAndLeavesGuestsRunning) {
  CreateGuest("stays");
  const v1::Vm vm = StartVm("stays");
  EXPECT_EQ(agent_->Terminate(), 0);
  EXPECT_EQ(kill(vm.worker().pid(), 0), 0);
  StartAgent();
  EXPECT_EQ(Get("stays").worker().pid(), vm.worker().pid());
}

TEST_F(SurvivalTest, ACorruptRegistryIsRefusedAndKept) {
  agent_->Terminate();
  const std::string path = home_.state_dir() + "/registry.db";
  for (const char* name : {"-wal", "-shm"}) unlink((path + name).c_str());
  std::ofstream(path, std::ios::trunc) << std::string(4096, 'x');
  const auto agent = AgentProcess::Start(home_);
  EXPECT_THAT(agent, StatusIs(absl::StatusCode::kInternal, HasSubstr("registry.db")));
  EXPECT_EQ(ReadSmallFile(path.c_str()).value_or("").substr(0, 4), "xxxx");
  unlink(path.c_str());
  StartAgent();
}

}  // namespace
}  // namespace drover
