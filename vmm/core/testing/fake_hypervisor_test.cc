#include "vmm/core/testing/fake_hypervisor.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <thread>

#include "vmm/base/status_matchers.h"
#include "vmm/core/testing/hypervisor_suite.h"

namespace drover {
namespace {

using absl::StatusCode;
using testing::ElementsAre;

std::unique_ptr<Vm> VmOf(FakeHypervisor& hypervisor) {
  return hypervisor.CreateVm(GuestMemory::Create({{0, 1 << 20}}).value()).value();
}

INSTANTIATE_TEST_SUITE_P(
    Fake, HypervisorSuite,
    testing::Values(HypervisorFactory{"Fake", [] { return std::make_unique<FakeHypervisor>(); }},
                    HypervisorFactory{"Poor",
                                      [] {
                                        BackendCapabilities poor =
                                            FakeHypervisor::DefaultCapabilities();
                                        poor.read_only_memory = poor.irqfd_resample = false;
                                        poor.kvmclock_realtime = poor.split_irqchip = false;
                                        return std::make_unique<FakeHypervisor>(poor);
                                      }}),
    [](const auto& info) { return info.param.name; });

TEST(FakeVcpu, FollowsItsScript) {
  FakeHypervisor hypervisor;
  hypervisor.script(0).QueuePortWrite(0x3f8, {'A'});
  hypervisor.script(0).QueueMmioRead(0xd0000000, 4);
  hypervisor.script(0).Queue(ShutdownExit{});
  hypervisor.script(0).QueueError(absl::InternalError("KVM_RUN"));
  const std::unique_ptr<Vm> vm = VmOf(hypervisor);
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Vcpu> vcpu, vm->CreateVcpu(0, 1));
  ASSERT_OK_AND_ASSIGN(VcpuExit exit, vcpu->Run());
  ASSERT_TRUE(std::holds_alternative<PortExit>(exit));
  EXPECT_THAT(std::get<PortExit>(exit).data, ElementsAre('A'));
  ASSERT_OK_AND_ASSIGN(exit, vcpu->Run());
  ASSERT_TRUE(std::holds_alternative<MmioExit>(exit));
  std::get<MmioExit>(exit).data[3] = 9;
  ASSERT_OK_AND_ASSIGN(exit, vcpu->Run());
  EXPECT_TRUE(std::holds_alternative<ShutdownExit>(exit));
  EXPECT_THAT(vcpu->Run(), StatusIs(StatusCode::kInternal));
  EXPECT_THAT(hypervisor.script(0).answers(), ElementsAre(ElementsAre(0, 0, 0, 9)));
}

TEST(FakeVcpu, RunWaitsForAnExit) {
  FakeHypervisor hypervisor;
  const std::unique_ptr<Vm> vm = VmOf(hypervisor);
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Vcpu> vcpu, vm->CreateVcpu(0, 1));
  std::thread test([&] {
    hypervisor.script(0).WaitUntilIdle();
    EXPECT_TRUE(hypervisor.script(0).running());
    hypervisor.script(0).Queue(HaltExit{});
  });
  ASSERT_OK_AND_ASSIGN(const VcpuExit exit, vcpu->Run());
  EXPECT_TRUE(std::holds_alternative<HaltExit>(exit));
  test.join();
}

TEST(FakeVcpu, FailsWhenToldTo) {
  FakeHypervisor hypervisor;
  hypervisor.script(0).FailSetUpForBoot(absl::InternalError("CPUID"));
  hypervisor.host().Fail("CreateIrqchip", absl::UnavailableError("busy"));
  const std::unique_ptr<Vm> vm = VmOf(hypervisor);
  EXPECT_THAT(vm->CreateIrqchip({}), StatusIs(StatusCode::kUnavailable));
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Vcpu> vcpu, vm->CreateVcpu(0, 1));
  EXPECT_THAT(vcpu->SetUpForBoot({.rip = 7}), StatusIs(StatusCode::kInternal));
  EXPECT_EQ(hypervisor.script(0).boots().at(0).rip, 7u);
}

TEST(FakeVm, LinesAreSeen) {
  FakeHypervisor hypervisor;
  const std::unique_ptr<Vm> vm = VmOf(hypervisor);
  ASSERT_OK(vm->CreateIrqchip({}));
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<IrqLine> line, vm->MakeIrqLine(9));
  line->Pulse();
  line->Set(true);
  line->Set(true);
  EXPECT_TRUE(hypervisor.host().irq_level(9));
  EXPECT_EQ(hypervisor.host().irq_rises(9), 2);
}

TEST(FakeVm, GuestWritesAreLogged) {
  FakeHypervisor hypervisor;
  const std::unique_ptr<Vm> vm = VmOf(hypervisor);
  auto& fake = static_cast<FakeVm&>(*vm);
  ASSERT_OK(vm->SetDirtyLogging(0, true));
  const uint8_t data[] = {1, 2};
  EXPECT_TRUE(fake.TouchAsGuest(4095, data));
  EXPECT_FALSE(fake.TouchAsGuest(2 << 20, data)) << "no memory there";
  std::vector<uint8_t> bitmap(32);
  ASSERT_OK(vm->GetDirtyLog(0, bitmap));
  EXPECT_EQ(bitmap[0], 3);
  ASSERT_OK(vm->GetDirtyLog(0, bitmap));
  EXPECT_EQ(bitmap[0], 0);
}

TEST(FakeVm, IoeventsAreSignalled) {
  FakeHypervisor hypervisor;
  const std::unique_ptr<Vm> vm = VmOf(hypervisor);
  const Fd event = MakeEventFd().value();
  const IoAddress at = {IoAddress::Space::kMmio, 0x1000};
  ASSERT_OK(vm->RegisterIoevent(event, at, {.width = 2, .value = 5}));
  const uint8_t five[] = {5, 0}, six[] = {6, 0};
  ASSERT_OK(vm->HandleIoEvents(at, six));
  uint64_t count = 0;
  EXPECT_LT(read(event.get(), &count, sizeof(count)), 0);
  ASSERT_OK(vm->HandleIoEvents(at, five));
  EXPECT_EQ(read(event.get(), &count, sizeof(count)), 8);
  EXPECT_EQ(count, 1u);
}

}  // namespace
}  // namespace drover
