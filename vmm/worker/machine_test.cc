#include "vmm/worker/machine.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/fake_clock.h"
#include "vmm/base/status_matchers.h"
#include "vmm/core/memory_layout.h"
#include "vmm/core/testing/fake_hypervisor.h"
#include "vmm/worker/tiny_kernel.h"

namespace drover {
namespace {

using enum MachineState;

constexpr uint64_t kMemory = 16 << 20;

size_t OpenDescriptors() {
  size_t count = 0;
  for (auto it = std::filesystem::directory_iterator("/proc/self/fd");
       it != std::filesystem::directory_iterator(); ++it)
    ++count;
  return count;
}

class MachineTest : public ::testing::Test {
 protected:
  void SetUp() override { Make(FakeHypervisor::DefaultCapabilities()); }
  void TearDown() override { machine_.reset(); }

  void Make(const BackendCapabilities& capabilities) {
    machine_.reset();
    console_.reset();
    auto loop = EventLoop::Create();
    ASSERT_THAT(loop, IsOk());
    loop_ = *std::move(loop);
    hypervisor_ = std::make_unique<FakeHypervisor>(capabilities);
    console_ = std::make_unique<Console>(loop_.get());
    kernel_ = TinyKernel();
    machine_ = std::make_unique<Machine>(Machine::Options{
        .environment = {.loop = loop_.get(),
                        .hypervisor = hypervisor_.get(),
                        .console = console_.get(),
                        .clock = &clock_,
                        .kernel_fd = kernel_.get(),
                        .on_memory = [this] { return memory_status_; }},
        .make_vcpu_thread = [this] { return VcpuThread::Start([this] { return enter_status_; }); },
        .on_change = [this](const MachineStatus& status) { changes_.push_back(status); }});
  }

  absl::Status Configure(uint32_t vcpus = 1) {
    return machine_->Configure({vcpus, kMemory, "console=ttyS0"});
  }
  void ConfigureAndStart(uint32_t vcpus = 1) {
    ASSERT_THAT(Configure(vcpus), IsOk());
    ASSERT_THAT(machine_->Start(), IsOk());
  }
  // Turns the loop until `done`, a minute at most.
  void RunUntil(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (!done()) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "nothing happened in time";
      loop_->RunOnce(std::chrono::milliseconds(20));
    }
  }
  void RunUntilState(MachineState state) {
    RunUntil([&] { return machine_->status().state == state; });
  }
  absl::Status Wait(const std::function<void(Machine::Done)>& call) {
    std::optional<absl::Status> result;
    call([&](absl::Status status) { result = std::move(status); });
    RunUntil([&] { return result.has_value(); });
    return result.value_or(absl::UnknownError("no answer"));
  }
  absl::Status Pause() {
    return Wait([&](Machine::Done done) { machine_->Pause(std::move(done)); });
  }
  absl::Status Stop() {
    return Wait([&](Machine::Done done) { machine_->Stop(std::move(done)); });
  }
  absl::Status Reset() {
    return Wait([&](Machine::Done done) { machine_->Reset(std::move(done)); });
  }
  void QueuePowerOff(uint32_t vcpu = 0) {
    hypervisor_->script(vcpu).QueuePortWrite(layout::kPm1ControlPort, {0, 0x34});  // S5, SLP_EN
  }
  void QueueReset(uint32_t vcpu = 0) { hypervisor_->script(vcpu).QueuePortWrite(0x64, {0xfe}); }

  FakeClock clock_;
  absl::Status memory_status_;
  absl::Status enter_status_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<FakeHypervisor> hypervisor_;
  std::unique_ptr<Console> console_;
  Fd kernel_;
  std::vector<MachineStatus> changes_;
  std::unique_ptr<Machine> machine_;
};

TEST_F(MachineTest, StartsAndStops) {
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart(3));
  hypervisor_->script(2).WaitUntilIdle();
  EXPECT_EQ(machine_->status().boot_count, 1u);
  EXPECT_THAT(Stop(), IsOk());
  std::vector<MachineState> states;
  for (const MachineStatus& change : changes_) states.push_back(change.state);
  EXPECT_THAT(states, ::testing::ElementsAre(kStarting, kRunning, kStopping, kStopped));
  EXPECT_EQ(machine_->status().reason, "STOP_REQUESTED");
  EXPECT_EQ(ReasonOf(Stop()), "WRONG_STATE");
}

TEST_F(MachineTest, StopBeforeStart) {
  EXPECT_THAT(Stop(), IsOk());
  EXPECT_EQ(machine_->status().state, kStopped);
}

TEST_F(MachineTest, CallsInTheWrongState) {
  EXPECT_EQ(ReasonOf(machine_->Start()), "WRONG_STATE");
  EXPECT_EQ(ReasonOf(Pause()), "WRONG_STATE");
  EXPECT_EQ(ReasonOf(machine_->Resume()), "WRONG_STATE");
  EXPECT_EQ(ReasonOf(Reset()), "WRONG_STATE");
  EXPECT_EQ(ReasonOf(machine_->PowerButton()), "WRONG_STATE");
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart());
  EXPECT_EQ(ReasonOf(Configure()), "WRONG_STATE");
  EXPECT_EQ(ReasonOf(machine_->Start()), "WRONG_STATE");
  EXPECT_EQ(ReasonOf(machine_->Resume()), "WRONG_STATE");
  EXPECT_EQ(machine_->status().state, kRunning);
}

// A build that fails anywhere leaves nothing behind and can be tried again.
TEST_F(MachineTest, FailedBuildReleasesEverything) {
  const size_t before = OpenDescriptors();
  for (const char* call : {"CreateVm", "CreateIrqchip", "CreateVcpu", "MakeIrqLine"}) {
    hypervisor_->host().Fail(call, absl::ResourceExhaustedError("no more"));
    EXPECT_THAT(Configure(2),
                StatusIs(absl::StatusCode::kResourceExhausted, ::testing::HasSubstr("no more")))
        << call;
    EXPECT_EQ(OpenDescriptors(), before) << call;
    hypervisor_->host().Fail(call, absl::OkStatus());
  }
  hypervisor_->script(1).FailSetUpForBoot(absl::InternalError("no CPUID"));
  EXPECT_THAT(Configure(2), StatusIs(absl::StatusCode::kInternal, ::testing::_));
  EXPECT_EQ(OpenDescriptors(), before);
  hypervisor_->script(1).FailSetUpForBoot(absl::OkStatus());
  EXPECT_TRUE(changes_.empty());
  EXPECT_EQ(machine_->status(), MachineStatus());
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart(2));
}

TEST_F(MachineTest, RefusesWhatTheBackendCannotDo) {
  BackendCapabilities capabilities = FakeHypervisor::DefaultCapabilities();
  capabilities.max_vcpus = 4;
  capabilities.guest_physical_bits = 36;
  Make(capabilities);
  absl::Status status = Configure(5);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                               ::testing::AllOf(::testing::HasSubstr("max_vcpus is 4"),
                                                ::testing::HasSubstr("5 vCPUs"))));
  EXPECT_EQ(FieldOf(status), "vm.spec.vcpus");
  EXPECT_EQ(FieldOf(Configure(0)), "vm.spec.vcpus");
  status = machine_->Configure({1, uint64_t{1} << 36, ""});
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                               ::testing::HasSubstr("guest_physical_bits 36")));
  EXPECT_EQ(FieldOf(status), "vm.spec.memory_mib");
  EXPECT_EQ(FieldOf(machine_->Configure({1, 4097, ""})), "vm.spec.memory_mib");
  EXPECT_THAT(Configure(4), IsOk());
}

MachineSpec Greedy(bool required) {
  return {.vcpus = 1,
          .memory_bytes = kMemory,
          .command_line = "",
          .features = {.memory_pages = {MemoryPages::k4K, required},
                       .dirty_log = {DirtyLogMode::kRing, required},
                       .snapshots = {SnapshotMode::kLive, required},
                       .migration = {MigrationMode::kPostCopy, required}},
          .withheld = {}};
}

// The table of CapabilityUsages through the builder: refused before anything is made, or built with
// the fallback in the machine's plan.
TEST_F(MachineTest, EachCapabilityThatIsWithheld) {
  const size_t before = OpenDescriptors();
  for (const CapabilityUsage& usage : CapabilityUsages()) {
    for (const bool required : {false, true}) {
      Make(FakeHypervisor::DefaultCapabilities());
      hypervisor_->host().Fail("CreateVm", absl::InternalError("was called"));
      MachineSpec spec = Greedy(required);
      spec.withheld = {usage.name};
      const absl::Status status = machine_->Configure(spec);
      if (ReasonOf(status) != "") {
        EXPECT_EQ(CapabilityOf(status), usage.name) << status;
        EXPECT_NE(FieldOf(status), "") << status;
        EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("withheld"));
        EXPECT_EQ(machine_->status(), MachineStatus());
        EXPECT_TRUE(required || usage.use == CapabilityUse::kRequired ||
                    usage.use == CapabilityUse::kLimit ||
                    std::string(usage.name) == "dirty_page_tracking")
            << status;
        continue;
      }
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kInternal, ::testing::HasSubstr("was called")))
          << usage.name;
      hypervisor_->host().Fail("CreateVm", absl::OkStatus());
      ASSERT_THAT(machine_->Configure(spec), IsOk()) << usage.name;
      const VmPlan& plan = machine_->status().plan;
      for (const Fallback& fallback : plan.fallbacks) EXPECT_EQ(fallback.capability, usage.name);
      EXPECT_TRUE(plan.fallbacks.empty() || usage.use == CapabilityUse::kFallback) << usage.name;
      EXPECT_TRUE(plan.fallbacks.empty() || !required) << usage.name;
    }
  }
  machine_.reset();
  console_.reset();
  loop_.reset();
  kernel_ = Fd();
  EXPECT_LE(OpenDescriptors(), before);
}

TEST_F(MachineTest, ThePlanTellsOfFallbacks) {
  MachineSpec spec = Greedy(/*required=*/false);
  spec.withheld = {"dirty_ring_bytes", "postcopy_restore"};
  ASSERT_THAT(machine_->Configure(spec), IsOk());
  const VmPlan& plan = machine_->status().plan;
  EXPECT_EQ(plan.dirty_log, DirtyLogMode::kBitmap);
  EXPECT_EQ(plan.snapshots, SnapshotMode::kLive);
  EXPECT_EQ(plan.migration, MigrationMode::kPreCopy);
  ASSERT_EQ(plan.fallbacks.size(), 2u);
  EXPECT_EQ(plan.fallbacks[0].taken, "dirty bitmap");
  EXPECT_EQ(plan.fallbacks[1].taken, "pre-copy");
}

TEST_F(MachineTest, AnUnknownCapabilityCannotBeWithheld) {
  MachineSpec spec = Greedy(/*required=*/false);
  spec.withheld = {"flux_capacitor"};
  EXPECT_EQ(ReasonOf(machine_->Configure(spec)), "CAPABILITY_UNKNOWN");
}

// As many 2 MiB pages as no host has.
TEST_F(MachineTest, TooFewHugePagesAreRefusedOrSmallOnesTaken) {
  MachineSpec spec = {.vcpus = 1,
                      .memory_bytes = uint64_t{1} << 45,
                      .command_line = "",
                      .features = {.memory_pages = {MemoryPages::k2M, true}},
                      .withheld = {}};
  const absl::Status status = machine_->Configure(spec);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted,
                               ::testing::HasSubstr("free 2 MiB pages")));
  EXPECT_EQ(FieldOf(status), "vm.spec.memory_pages.size");
  EXPECT_EQ(CapabilityOf(status), "hugetlb_2mib");
  EXPECT_EQ(ReasonOf(status), "HUGE_PAGES_EXHAUSTED");
  spec.features.memory_pages.required = false;
  ASSERT_THAT(machine_->Configure(spec), IsOk());
  const VmPlan& plan = machine_->status().plan;
  EXPECT_EQ(plan.memory_pages, MemoryPages::k4K);
  ASSERT_EQ(plan.fallbacks.size(), 1u);
  EXPECT_THAT(plan.fallbacks[0].reason, ::testing::HasSubstr("free 2 MiB pages"));
}

TEST_F(MachineTest, RefusesABadImage) {
  ASSERT_THAT(WriteAll(kernel_.get(), ""), IsOk());
  ASSERT_EQ(pwrite(kernel_.get(), "????", 4, 0), 4);
  const absl::Status status = Configure();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, ::testing::_));
  EXPECT_EQ(FieldOf(status), "vm.spec.boot.kernel_path");
}

TEST_F(MachineTest, NoImageIsReadWhereWhatFollowsMemoryFails) {
  memory_status_ = absl::InternalError("no limit");
  kernel_ = Fd();
  EXPECT_EQ(Configure().code(), absl::StatusCode::kInternal);
}

TEST_F(MachineTest, AtMost254Vcpus) {
  BackendCapabilities capabilities = FakeHypervisor::DefaultCapabilities();
  capabilities.max_vcpus = 1024;
  Make(capabilities);
  EXPECT_EQ(FieldOf(Configure(255)), "vm.spec.vcpus");
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart(254));
  EXPECT_THAT(Pause(), IsOk());
  for (uint32_t id = 0; id < 254; ++id) EXPECT_EQ(hypervisor_->script(id).pauses(), 1);
  ASSERT_THAT(machine_->Resume(), IsOk());
  EXPECT_THAT(Stop(), IsOk());
}

TEST_F(MachineTest, ConsoleBothWays) {
  auto attached = console_->Attach();
  ASSERT_THAT(attached, IsOk());
  for (const char c : std::string("hi"))
    hypervisor_->script(0).QueuePortWrite(layout::kSerialPort, {static_cast<uint8_t>(c)});
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart());
  std::string text;
  RunUntil([&] {
    char buffer[16];
    const ssize_t n = recv(attached->stream.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n > 0) text.append(buffer, static_cast<size_t>(n));
    return text == "hi";
  });
  ASSERT_EQ(send(attached->stream.get(), "x", 1, 0), 1);
  RunUntil([&] {
    hypervisor_->script(0).QueuePortRead(layout::kSerialPort + 5, 1);  // LSR
    hypervisor_->script(0).WaitUntilIdle();
    return (hypervisor_->script(0).answers().back()[0] & 1) != 0;
  });
  hypervisor_->script(0).QueuePortRead(layout::kSerialPort, 1);
  RunUntil([&] { return hypervisor_->script(0).answers().back()[0] == 'x'; });
}

TEST_F(MachineTest, PauseParksEveryVcpu) {
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart(4));
  for (int round = 1; round <= 50; ++round) {
    ASSERT_THAT(Pause(), IsOk());
    EXPECT_EQ(machine_->status().state, kPaused);
    for (uint32_t id = 0; id < 4; ++id) {
      EXPECT_FALSE(hypervisor_->script(id).running());
      EXPECT_EQ(hypervisor_->script(id).pauses(), round);
      EXPECT_GE(hypervisor_->script(id).completions(), round);
    }
    ASSERT_THAT(machine_->Resume(), IsOk());
  }
  EXPECT_EQ(ReasonOf(machine_->Resume()), "WRONG_STATE");
}

// Pausing while every vCPU leaves the guest all the time: no kick is lost, nothing runs on.
TEST_F(MachineTest, PauseOfBusyVcpus) {
  std::atomic<bool> stop{false};
  std::function<absl::StatusOr<VcpuExit>()> busy[3];
  for (uint32_t id = 0; id < 3; ++id) {
    busy[id] = [&, id]() -> absl::StatusOr<VcpuExit> {
      if (!stop) hypervisor_->script(id).QueueStep(busy[id]);
      return InterruptedExit{};
    };
    hypervisor_->script(id).QueueStep(busy[id]);
  }
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart(3));
  for (int round = 0; round < 200; ++round) {
    ASSERT_THAT(Pause(), IsOk());
    const int runs = hypervisor_->script(1).runs();
    loop_->RunOnce(std::chrono::milliseconds(0));
    EXPECT_EQ(hypervisor_->script(1).runs(), runs);
    ASSERT_THAT(machine_->Resume(), IsOk());
  }
  stop = true;
  ASSERT_THAT(Stop(), IsOk());
}

TEST_F(MachineTest, GuestShutdown) {
  QueuePowerOff(1);
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart(2));
  RunUntilState(kStopped);
  EXPECT_EQ(machine_->status().reason, "GUEST_SHUTDOWN");
  EXPECT_FALSE(hypervisor_->script(0).running());
}

TEST_F(MachineTest, GuestResetRebootsInPlace) {
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart(2));
  for (uint32_t boot = 2; boot < 5; ++boot) {
    QueueReset(boot % 2);
    RunUntil([&] { return machine_->status().boot_count == boot; });
    EXPECT_EQ(machine_->status().reason, "GUEST_RESET");
    EXPECT_EQ(machine_->status().state, kRunning);
    EXPECT_EQ(hypervisor_->script(1).boots().size(), boot);
    EXPECT_EQ(hypervisor_->host().irqchip_resets(), static_cast<int>(boot) - 1);
  }
  EXPECT_EQ(hypervisor_->script(0).boots().back().rip, 0x100000u);
}

TEST_F(MachineTest, RequestedResetRunningAndPaused) {
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart());
  EXPECT_THAT(Reset(), IsOk());
  EXPECT_EQ(machine_->status().boot_count, 2u);
  EXPECT_EQ(machine_->status().reason, "RESET_REQUESTED");
  ASSERT_THAT(Pause(), IsOk());
  EXPECT_THAT(Reset(), IsOk());
  EXPECT_EQ(machine_->status().state, kRunning);
  EXPECT_EQ(machine_->status().boot_count, 3u);
  hypervisor_->script(0).WaitUntilIdle();
}

TEST_F(MachineTest, FailedResetFailsTheMachine) {
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart());
  hypervisor_->host().Fail("ResetIrqchip", absl::InternalError("broken"));
  EXPECT_THAT(Reset(), StatusIs(absl::StatusCode::kFailedPrecondition, ::testing::_));
  EXPECT_EQ(machine_->status().state, kFailed);
  EXPECT_EQ(machine_->status().reason, "RESET_FAILED");
}

TEST_F(MachineTest, FatalExits) {
  const auto exit = [](const VcpuExit& value) {
    return [value]() { return absl::StatusOr<VcpuExit>(value); };
  };
  const auto error = [](int number) {
    return
        [number]() { return absl::StatusOr<VcpuExit>(PosixStatus(number, "KVM_RUN", "vCPU 1")); };
  };
  const std::vector<std::pair<std::string, FakeVcpuScript::Step>> cases = {
      {"TRIPLE_FAULT", exit(ShutdownExit{})},
      {"EMULATION_FAILED", exit(InternalErrorExit{1, true, {0x0f, 0x0b}})},
      {"INTERNAL_ERROR", exit(InternalErrorExit{3, false, {}})},
      {"FAIL_ENTRY", exit(FailEntryExit{0x80000021})},
      {"UNKNOWN_EXIT", exit(UnknownExit{77})},
      {"UNKNOWN_EXIT", exit(HaltExit{})},
      {"GUEST_CRASH", exit(SystemEventExit{SystemEventExit::Kind::kCrash})},
      {"KVM_ERROR", error(EFAULT)},
      {"KVM_ERROR", error(EBADF)},
  };
  for (const auto& [reason, step] : cases) {
    Make(FakeHypervisor::DefaultCapabilities());
    hypervisor_->script(1).QueueStep(step);
    ASSERT_NO_FATAL_FAILURE(ConfigureAndStart(3));
    ASSERT_NO_FATAL_FAILURE(RunUntilState(kFailed)) << reason;
    EXPECT_EQ(machine_->status().reason, reason);
    EXPECT_FALSE(machine_->status().message.empty());
    for (uint32_t id = 0; id < 3; ++id) EXPECT_FALSE(hypervisor_->script(id).running());
  }
}

TEST_F(MachineTest, HarmlessExitsRunOn) {
  FakeVcpuScript& script = hypervisor_->script(0);
  script.QueueError(PosixStatus(EAGAIN, "KVM_RUN", ""));
  script.QueueError(PosixStatus(EINTR, "KVM_RUN", ""));
  script.Queue(InterruptedExit{});
  script.QueueMmioRead(0xD0000000, 4);
  script.QueueMmioWrite(0xD0000000, {1, 2});
  uint8_t injected = 0;
  uint64_t value = 0;
  script.Queue(MsrExit{0x1234, false, &value, &injected});
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart());
  script.WaitUntilIdle();
  EXPECT_EQ(injected, 1);
  EXPECT_THAT(script.answers().at(0), ::testing::Each(0xff));
  EXPECT_EQ(machine_->status().state, kRunning);
}

TEST_F(MachineTest, GuestEndWhilePausing) {
  QueuePowerOff();
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart());
  const absl::Status status = Pause();
  EXPECT_THAT(ReasonOf(status), ::testing::AnyOf("", "MACHINE_ENDED", "WRONG_STATE"));
  if (machine_->status().state == kPaused) {
    ASSERT_THAT(machine_->Resume(), IsOk());
  }
  RunUntilState(kStopped);
}

TEST_F(MachineTest, ResetAndPauseTogether) {
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart(2));
  std::optional<absl::Status> paused, reset;
  machine_->Pause([&](absl::Status status) { paused = status; });
  machine_->Reset([&](absl::Status status) { reset = status; });
  RunUntil([&] { return paused.has_value() && reset.has_value(); });
  EXPECT_THAT(*paused, IsOk());
  EXPECT_THAT(*reset, IsOk());
  EXPECT_EQ(machine_->status().state, kPaused);
  EXPECT_EQ(machine_->status().boot_count, 2u);
  ASSERT_THAT(machine_->Resume(), IsOk());
}

TEST_F(MachineTest, StopWinsOverPauseAndReset) {
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart(2));
  std::optional<absl::Status> paused, reset;
  machine_->Pause([&](absl::Status status) { paused = status; });
  machine_->Reset([&](absl::Status status) { reset = status; });
  EXPECT_THAT(Stop(), IsOk());
  EXPECT_EQ(ReasonOf(paused.value()), "MACHINE_ENDED");
  EXPECT_EQ(ReasonOf(reset.value()), "MACHINE_ENDED");
}

TEST_F(MachineTest, UnconfinedThreadsNeverRun) {
  enter_status_ = absl::PermissionDeniedError("no seccomp");
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart(2));
  RunUntilState(kFailed);
  EXPECT_EQ(machine_->status().reason, "INTERNAL_ERROR");
  EXPECT_EQ(hypervisor_->script(0).runs(), 0);
}

TEST_F(MachineTest, PowerButtonNeedsAListeningGuest) {
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart());
  EXPECT_THAT(machine_->PowerButton(),
              StatusIs(absl::StatusCode::kFailedPrecondition, ::testing::_));
  hypervisor_->script(0).QueuePortWrite(layout::kPm1EventPort + 2, {0x00, 0x01});  // PWRBTN_EN
  hypervisor_->script(0).WaitUntilIdle();
  RunUntil([&] { return machine_->PowerButton().ok(); });
  EXPECT_TRUE(hypervisor_->host().irq_level(layout::kSciIrq));
}

TEST_F(MachineTest, DestroyedWhileRunning) {
  ASSERT_NO_FATAL_FAILURE(ConfigureAndStart(8));
  machine_.reset();
  loop_->RunOnce(std::chrono::milliseconds(0));
}

}  // namespace
}  // namespace drover
