// The life of a VM through the API, with the test guest on real KVM.
#include <string>

#include "e2e/harness/vm_fixture.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class LifecycleTest : public VmFixture {
 protected:
  // Calls that change a running VM and must succeed.
  template <typename Request>
  v1::Vm Call(grpc::Status (v1::VmService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                          v1::Vm*),
              const std::string& id) {
    grpc::ClientContext context;
    Request request;
    request.set_vm_id(id);
    v1::Vm vm;
    const grpc::Status status = (vms_.get()->*method)(&context, request, &vm);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return vm;
  }

  v1::Vm Stop(const std::string& id, bool force, int grace_seconds = 30) {
    grpc::ClientContext context;
    v1::StopVmRequest request;
    request.set_vm_id(id);
    request.set_force(force);
    request.mutable_grace()->set_seconds(grace_seconds);
    v1::Vm vm;
    const grpc::Status status = vms_->StopVm(&context, request, &vm);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return vm;
  }
};

TEST_F(LifecycleTest, BootsAnswersPausesResumesAndPowersOff) {
  const v1::Vm created = CreateGuest("vm1", "quiet");
  EXPECT_EQ(created.state(), v1::VM_STATE_CREATED);
  EXPECT_FALSE(created.has_worker());
  const v1::Vm started = StartVm("vm1");
  EXPECT_EQ(started.state(), v1::VM_STATE_RUNNING);
  EXPECT_EQ(started.boot_count(), 1);
  EXPECT_GT(started.worker().pid(), 0);
  EXPECT_NE(started.etag(), created.etag());

  auto console = Console("vm1");
  ASSERT_OK(console->Expect("hello from drover test guest"));
  ASSERT_OK(console->Expect("ready\n"));
  EXPECT_THAT(console->Command("echo one two"), IsOkAndHolds("ok echo one two"));
  EXPECT_THAT(console->Command("report"), IsOkAndHolds(HasSubstr("online=1")));

  EXPECT_EQ(Call(&v1::VmService::Stub::PauseVm, "vm1").state(), v1::VM_STATE_PAUSED);
  EXPECT_EQ(Get("vm1").state(), v1::VM_STATE_PAUSED);
  ASSERT_TRUE(console->Send("echo while paused\n"));
  EXPECT_EQ(Call(&v1::VmService::Stub::ResumeVm, "vm1").state(), v1::VM_STATE_RUNNING);
  ASSERT_OK(console->Expect("ok echo while paused"));

  ASSERT_TRUE(console->Send("poweroff\n"));
  const v1::Vm stopped = WaitFor("vm1", v1::VM_STATE_STOPPED);
  EXPECT_EQ(stopped.state_reason(), "GUEST_SHUTDOWN");
  EXPECT_FALSE(stopped.has_worker());
  EXPECT_EQ(StartVm("vm1").boot_count(), 2);
  EXPECT_OK(Console("vm1")->Expect("ready\n"));
}

TEST_F(LifecycleTest, APausedGuestDoesNotRun) {
  CreateGuest("still", "do=ticks,on,ms=20");
  StartVm("still");
  auto console = Console("still");
  ASSERT_OK(console->Expect("tick 3\n"));
  Call(&v1::VmService::Stub::PauseVm, "still");
  absl::SleepFor(absl::Milliseconds(200));  // what was on its way
  const std::string before = console->Output();
  absl::SleepFor(absl::Milliseconds(500));
  EXPECT_EQ(console->Output(), before);
  Call(&v1::VmService::Stub::ResumeVm, "still");
  ASSERT_OK(console->Expect("tick "));
}

TEST_F(LifecycleTest, RebootAndGuestResetBeginAgainWithCleanMemory) {
  CreateGuest("again");
  StartVm("again");
  auto console = Console("again");
  ASSERT_OK(console->Expect("ready\n"));
  EXPECT_THAT(console->Command("touch base=16M size=4M passes=1"),
              IsOkAndHolds(StartsWith("ok touch")));
  const v1::Vm rebooted = Call(&v1::VmService::Stub::RebootVm, "again");
  EXPECT_EQ(rebooted.state(), v1::VM_STATE_RUNNING);
  EXPECT_EQ(rebooted.boot_count(), 2);
  ASSERT_OK(console->Expect("hello from drover test guest"));
  ASSERT_OK(console->Expect("ready\n"));
  ASSERT_TRUE(console->Send("reset\n"));
  ASSERT_OK(console->Expect("hello from drover test guest"));
  ASSERT_OK(console->Expect("ready\n"));
  EXPECT_TRUE(Eventually([&] { return Get("again").boot_count() == 3; }));
  EXPECT_EQ(Get("again").state(), v1::VM_STATE_RUNNING);
}

TEST_F(LifecycleTest, ATripleFaultFailsTheVmWithItsReason) {
  CreateGuest("fault", "do=triple-fault");
  grpc::ClientContext context;
  v1::StartVmRequest request;
  request.set_vm_id("fault");
  v1::Vm vm;
  vms_->StartVm(&context, request, &vm);  // the fault may come before or after the answer
  const v1::Vm failed = WaitFor("fault", v1::VM_STATE_FAILED);
  EXPECT_EQ(failed.state_reason(), "TRIPLE_FAULT");
  EXPECT_NE(failed.state_message(), "");
}

TEST_F(LifecycleTest, StopIsForcedWhenTheGuestDoesNotListen) {
  CreateGuest("deaf", "do=spin");
  StartVm("deaf");
  const v1::Vm stopped = Stop("deaf", /*force=*/false, /*grace_seconds=*/1);
  EXPECT_EQ(stopped.state(), v1::VM_STATE_STOPPED);
  EXPECT_EQ(stopped.state_reason(), "STOP_REQUESTED");
  StartVm("deaf");
  EXPECT_EQ(Stop("deaf", /*force=*/true).state(), v1::VM_STATE_STOPPED);
}

TEST_F(LifecycleTest, SeveralVcpusStartAndAreMadeAgainOnReboot) {
  CreateGuest("smp", "", /*vcpus=*/4);
  StartVm("smp");
  auto console = Console("smp");
  ASSERT_OK(console->Expect("ready\n"));
  EXPECT_THAT(console->Command("cpus start count=4"), IsOkAndHolds(HasSubstr("online=4")));
  Call(&v1::VmService::Stub::PauseVm, "smp");
  Call(&v1::VmService::Stub::ResumeVm, "smp");
  EXPECT_THAT(console->Command("cpus"), IsOkAndHolds(HasSubstr("online=4")));
  Call(&v1::VmService::Stub::RebootVm, "smp");
  ASSERT_OK(console->Expect("ready\n"));
  EXPECT_THAT(console->Command("cpus start count=4"), IsOkAndHolds(HasSubstr("online=4")));
}

TEST_F(LifecycleTest, AnInitrdAndSeveralVmsAtOnce) {
  for (const std::string id : {"a", "b", "c"}) {
    v1::CreateVmRequest request = GuestRequest(id);
    request.mutable_vm()->mutable_spec()->mutable_boot()->set_initrd_path(guest_);
    Create(request);
    StartVm(id);
  }
  for (const std::string id : {"a", "b", "c"}) {
    auto console = Console(id);
    EXPECT_OK(console->Expect("ready\n"));
    EXPECT_THAT(console->Command("echo " + id), IsOkAndHolds("ok echo " + id));
  }
  EXPECT_EQ(Get("a").worker().pid() == Get("b").worker().pid(), false);
  EXPECT_EQ(Get("a").worker().uid() == Get("b").worker().uid(), false);
}

TEST_F(LifecycleTest, NothingIsLeftAfterDelete) {
  for (int i = 0; i < 5; ++i) {
    CreateGuest("leaf");
    StartVm("leaf");
    ForceDelete("leaf");
  }
  EXPECT_TRUE(Eventually([&] { return home_.WorkerDirectories().empty(); }))
      << ::testing::PrintToString(home_.WorkerDirectories());
}

}  // namespace
}  // namespace drover
