// The test guest, and the nested guest that it runs, moved into second VMs through Vm and Vcpu.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "e2e/kvm/state_machine.h"
#include "vmm/base/status_matchers.h"
#include "vmm/kvm/testing/kvm_for_test.h"

namespace drover {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr char kGuest[] = "e2e/guest/guest.elf";

uint64_t Number(const std::string& answer, const std::string& name) {
  const size_t at = answer.find(" " + name + "=");
  return at == std::string::npos ? 0 : std::stoull(answer.substr(at + name.size() + 2));
}

class MovedGuest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<KvmHypervisor>> opened = OpenKvmForTest();
    if (absl::IsUnavailable(opened.status())) GTEST_SKIP() << "SKIPPED: " << opened.status();
    ASSERT_OK(opened);
    hypervisor_ = *std::move(opened);
  }

  void Start(const std::string& command_line) {
    ASSERT_OK_AND_ASSIGN(machine_, StateMachine::Create(*hypervisor_, kGuest, command_line));
    ASSERT_OK(machine_->RunUntil("ready"));
  }

  // Everything into a new VM, and the old one gone.
  void Move() {
    ASSERT_OK_AND_ASSIGN(const VcpuState state, machine_->vcpu().SaveState());
    ASSERT_OK_AND_ASSIGN(auto target, StateMachine::Create(*hypervisor_, "", ""));
    ASSERT_OK(target->Take(*machine_, state));
    machine_ = std::move(target);
  }

  // A few slices of whatever the guest does.
  void RunOn(int slices) {
    ASSERT_OK(machine_->Run([&] { return slices-- <= 0; }));
  }

  std::string Ask(const std::string& command) {
    const absl::StatusOr<std::string> answer = machine_->Ask(command);
    EXPECT_OK(answer);
    return answer.value_or("");
  }

  std::unique_ptr<KvmHypervisor> hypervisor_;
  std::unique_ptr<StateMachine> machine_;
};

TEST_F(MovedGuest, WritesOnWithoutAWrongByte) {
  Start("do=touch,size=8M,rate=20000");
  uint64_t writes = 0;
  for (int i = 0; i < 5; ++i) {
    RunOn(3 + i);
    ASSERT_NO_FATAL_FAILURE(Move());
    const std::string touch = Ask("touch");
    EXPECT_THAT(touch, HasSubstr("running=1"));
    EXPECT_GT(Number(touch, "writes"), writes);
    writes = Number(touch, "writes");
  }
  Ask("touch stop");
  EXPECT_THAT(Ask("verify"), AllOf(HasSubstr("ok verify"), HasSubstr(" bad=0 ")));
  EXPECT_THAT(Ask("gap"), HasSubstr(" backwards=0"));
}

TEST_F(MovedGuest, TimersGoOn) {
  for (const std::string timer : {"lapic", "pit"}) {
    Start("");
    const std::string started = Ask("timer " + timer + " hz=100");
    if (started.find("error") != std::string::npos) GTEST_SKIP() << "SKIPPED: " << started;
    RunOn(20);
    ASSERT_NO_FATAL_FAILURE(Move());
    const uint64_t before = Number(Ask("timer"), "interrupts");
    RunOn(60);
    EXPECT_GT(Number(Ask("timer"), "interrupts"), before) << timer;
  }
}

// The parameter: what the guest does, and the flags of the nested state to catch it at.
struct Moment {
  const char* name;
  const char* command;
  uint16_t flags;
};
constexpr Moment kMoments[] = {
    {"InNestedGuest", "nested,start", kNestedGuestMode | kNestedGifSet},
    {"InNestedGuestWithoutNestedPaging", "nested,start,shadow", kNestedGuestMode | kNestedGifSet},
    {"BetweenVmrunAndNestedGuest", "nested,start,turns=1",
     kNestedGuestMode | kNestedRunPending | kNestedGifSet},
    {"InHypervisor", "nested,start,turns=1", kNestedGifSet},
    {"GifClear", "nested,hold", 0},
};

class MovedNestedGuest : public MovedGuest, public testing::WithParamInterface<Moment> {
 protected:
  void SetUp() override {
    MovedGuest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    if (hypervisor_->capabilities().nested_state_bytes == 0)
      GTEST_SKIP() << "SKIPPED: this KVM has no nested state";
    ASSERT_NO_FATAL_FAILURE(Start(""));
    if (Ask("nested").find("no SVM") != std::string::npos)
      GTEST_SKIP() << "SKIPPED: no SVM for guests here";
  }
};

TEST_P(MovedNestedGuest, GoesOn) {
  ASSERT_NO_FATAL_FAILURE(Start(std::string("do=") + GetParam().command));
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK(machine_->Run([&] {
      const absl::StatusOr<VcpuState> state = machine_->vcpu().SaveState();
      return state.ok() && state->nested && state->nested->flags == GetParam().flags;
    }));
    ASSERT_NO_FATAL_FAILURE(Move());
    const uint64_t before = Number(Ask("nested"), "count");
    const std::string after = Ask("nested");
    EXPECT_THAT(after, AllOf(HasSubstr("ok nested count="), HasSubstr(" running=1 ")));
    EXPECT_GT(Number(after, "count"), before);
  }
  EXPECT_THAT(Ask("nested stop"), HasSubstr("ok nested count="));
}

INSTANTIATE_TEST_SUITE_P(Moments, MovedNestedGuest, testing::ValuesIn(kMoments),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace drover
