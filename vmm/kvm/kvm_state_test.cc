// Machines moved between VMs while their guests work, and interrupts on their way into a vCPU's
// local APIC, on real KVM.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "vmm/base/status_matchers.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/testing/kvm_for_test.h"
#include "vmm/kvm/testing/mini_guest.h"
#include "vmm/kvm/vcpu_state_steps.h"

namespace drover {
namespace {

using testing::HasSubstr;

constexpr uint64_t kRam = 1 << 20;
constexpr uint64_t kCode = 0x1000;
constexpr uint32_t kCount = 0x3000;  // where the guest keeps its count
constexpr uint32_t kEoi = 0xFEE000B0;

// LAPIC registers (SDM vol. 3A §11.4.1).
constexpr uint32_t kSvr = 0xF0, kIsr = 0x100, kTmr = 0x180, kIrr = 0x200;

struct Machine {
  std::unique_ptr<Vm> vm;
  std::unique_ptr<Vcpu> vcpu;
};

class KvmState : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<KvmHypervisor>> opened = OpenKvmForTest();
    if (absl::IsUnavailable(opened.status())) GTEST_SKIP() << "SKIPPED: " << opened.status();
    ASSERT_OK(opened);
    hypervisor_ = *std::move(opened);
  }

  Machine Make(bool irqchip = true) {
    Machine machine;
    machine.vm = hypervisor_->CreateVm(GuestMemory::Create({{0, kRam}}).value()).value();
    if (irqchip && !machine.vm->CreateIrqchip({}).ok()) ADD_FAILURE() << "CreateIrqchip";
    machine.vcpu = machine.vm->CreateVcpu(0, 1).value();
    return machine;
  }

  Machine Booted(const MiniGuest& guest, bool irqchip = true) {
    Machine machine = Make(irqchip);
    EXPECT_OK(machine.vm->memory().Write(kCode, guest.code()));
    EXPECT_OK(machine.vcpu->SetUpForBoot({.rip = kCode, .rsp = 0x8000}));
    return machine;
  }

  static void CopyMemory(Machine& from, Machine& to) {
    std::vector<uint8_t> bytes(kRam);
    ASSERT_OK(from.vm->memory().Read(0, bytes));
    ASSERT_OK(to.vm->memory().Write(0, bytes));
  }

  // Everything of `from` into a new machine.
  Machine Moved(Machine& from, bool irqchip = true) {
    Machine to = Make(irqchip);
    CopyMemory(from, to);
    PvClock clock = from.vm->GetPvClock().value();
    clock.realtime_nanos.reset();
    EXPECT_OK(to.vm->SetPvClock(clock));
    const absl::StatusOr<VcpuState> state = from.vcpu->SaveState();
    EXPECT_OK(state);
    EXPECT_OK(to.vcpu->RestoreState(*state));
    if (!irqchip) return to;
    const absl::StatusOr<IrqchipState> chips = from.vm->SaveIrqchip();
    EXPECT_OK(chips);
    EXPECT_OK(to.vm->RestoreIrqchip(*chips));
    return to;
  }

  // Runs until a port is written; the value.
  static uint32_t NextOut(Machine& machine) {
    for (int i = 0; i < 100; ++i) {
      const absl::StatusOr<VcpuExit> exit = machine.vcpu->Run();
      EXPECT_OK(exit);
      if (!exit.ok()) break;
      const auto* port = std::get_if<PortExit>(&*exit);
      if (port == nullptr) continue;
      uint32_t value = 0;
      memcpy(&value, port->data.data(), port->data.size());
      return value;
    }
    ADD_FAILURE() << "no port written\n" << machine.vcpu->DumpRegisters();
    return ~0u;
  }

  // The vCPU with its local APIC on and `change` made to it.
  template <typename Change>
  static void ChangeLapic(Machine& machine, Change change) {
    VcpuState state = machine.vcpu->SaveState().value();
    SetLapicRegister(&*state.lapic, kSvr, 0x1FF);
    change(&*state.lapic);
    ASSERT_OK(machine.vcpu->RestoreState(state));
  }

  static bool HasVector(Machine& machine, uint32_t bitmap, uint32_t vector) {
    const VcpuState state = machine.vcpu->SaveState().value();
    return LapicRegister(*state.lapic, bitmap + vector / 32 * 16) >> vector % 32 & 1;
  }

  // Interrupts by irqfd may come from a kernel thread.
  static bool SoonHasVector(Machine& machine, uint32_t vector) {
    for (int i = 0; i < 3000; ++i) {
      if (HasVector(machine, kIrr, vector)) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  static void SetRedirection(Machine& machine, uint32_t pin, uint64_t bits) {
    IrqchipState state = machine.vm->SaveIrqchip().value();
    std::get<PcIrqchipState>(state).ioapic.redirections[pin].bits = bits;
    ASSERT_OK(machine.vm->RestoreIrqchip(state));
  }

  static IoapicState Ioapic(Machine& machine) {
    return std::get<PcIrqchipState>(machine.vm->SaveIrqchip().value()).ioapic;
  }

  std::unique_ptr<KvmHypervisor> hypervisor_;
};

// Counts in EAX and in memory, and tells each number.
MiniGuest Counter() {
  return MiniGuest()
      .MovEcx(0xC1C1C1C1)
      .MovEdx(0xD1D1D1D1)
      .MovEsi(0x51515151)
      .MovEdi(0xD2D2D2D2)
      .MovEax(0)
      .OutEax(0x10)
      .Bytes({0x40})  // inc %eax
      .StoreEax(kCount)
      .JumpBack(8);
}

TEST_F(KvmState, ACountingGuestGoesOnInASecondVm) {
  for (const bool irqchip : {true, false}) {
    Machine machine = Booted(Counter(), irqchip);
    for (uint32_t n = 0; n < 300; ++n) {
      ASSERT_EQ(NextOut(machine), n);
      if (n % 50 == 49) machine = Moved(machine, irqchip);
    }
    const VcpuState state = machine.vcpu->SaveState().value();
    EXPECT_EQ(state.regs.rcx, 0xC1C1C1C1u);
    EXPECT_EQ(state.regs.rdx, 0xD1D1D1D1u);
    EXPECT_EQ(state.regs.rsi, 0x51515151u);
    EXPECT_EQ(state.regs.rdi, 0xD2D2D2D2u);
    uint32_t count = 0;
    ASSERT_OK(machine.vm->memory().Read(kCount, {reinterpret_cast<uint8_t*>(&count), 4}));
    EXPECT_EQ(count, 299u);
  }
}

TEST_F(KvmState, TheTscNeverGoesBackAcrossMoves) {
  // rdtsc; mov %edx, %ecx; out %eax, $0x10; mov %ecx, %eax; out %eax, $0x11; jmp
  Machine machine = Booted(MiniGuest()
                               .Bytes({0x0F, 0x31, 0x89, 0xD1})
                               .OutEax(0x10)
                               .Bytes({0x89, 0xC8})
                               .OutEax(0x11)
                               .JumpBack(10));
  uint64_t last = 0;
  for (int i = 0; i < 40; ++i) {
    const uint64_t low = NextOut(machine), high = NextOut(machine);
    const uint64_t now = high << 32 | low;
    ASSERT_GT(now, last) << i;
    last = now;
    if (i % 10 == 9) machine = Moved(machine);
  }
}

TEST_F(KvmState, SaveTakesTheAnswerOfTheLastExit) {
  Machine machine = Booted(MiniGuest().InAl(0x90).OutAl(0x91).Spin());
  absl::StatusOr<VcpuExit> exit = machine.vcpu->Run();
  ASSERT_OK(exit);
  std::get<PortExit>(*exit).data[0] = 0x42;
  Machine moved = Moved(machine);
  EXPECT_EQ(moved.vcpu->SaveState()->regs.rax, 0x42u);
  EXPECT_EQ(NextOut(moved), 0x42u);
}

TEST_F(KvmState, ARestoreForgetsTheExitBefore) {
  Machine machine = Booted(MiniGuest().InAl(0x90).OutAl(0x91).JumpBack(4));
  const VcpuState at_boot = machine.vcpu->SaveState().value();
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK(machine.vcpu->Run());  // the IN is half done
    ASSERT_OK(machine.vcpu->RestoreState(at_boot));
    EXPECT_EQ(machine.vcpu->SaveState()->regs, at_boot.regs);
  }
}

TEST_F(KvmState, AnotherCpuidAfterRunningIsRefused) {
  Machine machine = Booted(Counter());
  NextOut(machine);
  const VcpuState before = machine.vcpu->SaveState().value();
  VcpuState state = before;
  state.cpuid.pop_back();
  EXPECT_THAT(machine.vcpu->RestoreState(state), HasErrno(EINVAL));
  EXPECT_EQ(machine.vcpu->SaveState()->regs, before.regs);
  EXPECT_OK(machine.vcpu->RestoreState(before));
}

TEST_F(KvmState, ResetAfterAMove) {
  Machine machine = Booted(Counter());
  for (uint32_t n = 0; n < 5; ++n) EXPECT_EQ(NextOut(machine), n);
  Machine moved = Moved(machine);
  ASSERT_OK(moved.vm->ResetIrqchip());
  ASSERT_OK(moved.vcpu->SetUpForBoot({.rip = kCode, .rsp = 0x8000}));
  for (uint32_t n = 0; n < 5; ++n) EXPECT_EQ(NextOut(moved), n);
}

TEST_F(KvmState, EveryStepSaysWhyItStandsThere) {
  EXPECT_EQ(VcpuStateSteps().size(), 12u);
  for (const VcpuStateStep& step : VcpuStateSteps()) {
    EXPECT_GT(strlen(step.why_here), 10u) << step.name;
    EXPECT_TRUE(step.get != nullptr && step.set != nullptr) << step.name;
  }
}

TEST_F(KvmState, PeerEntriesDoubleOnError) {
  const Fd kvm = OpenFile("/dev/kvm", O_RDWR).value();
  ASSERT_OK_AND_ASSIGN(const CpuidEntries entries, GetSupportedCpuid(kvm.get(), /*room=*/4));
  EXPECT_GT(entries.size(), 4u);
}

TEST_F(KvmState, MsrsOfAParavirtualGuestComeBack) {
  Machine machine = Booted(Counter());
  constexpr uint32_t kSystemTime = 0x4B564D01;
  const absl::Status taken = machine.vcpu->SetMsr(kSystemTime, 0x5001);
  if (!taken.ok()) GTEST_SKIP() << "SKIPPED: no kvmclock here: " << taken;
  NextOut(machine);
  Machine moved = Moved(machine);
  EXPECT_THAT(moved.vcpu->GetMsr(kSystemTime), IsOkAndHolds(0x5001u));
  uint32_t version[2] = {};
  NextOut(moved);
  ASSERT_OK(moved.vm->memory().Read(0x5000, {reinterpret_cast<uint8_t*>(version), 8}));
  EXPECT_NE(version[0], 0u) << "KVM keeps the clock's page in the second VM";
}

// struct pvclock_vcpu_time_info: flags at byte 29, PVCLOCK_GUEST_STOPPED is bit 1.
TEST_F(KvmState, AGuestWithKvmclockIsToldThatItWasStopped) {
  Machine machine = Booted(Counter());
  const absl::Status taken = machine.vcpu->SetMsr(0x4B564D01, 0x5001);
  if (!taken.ok()) GTEST_SKIP() << "SKIPPED: no kvmclock here: " << taken;
  const auto flags = [&] {
    NextOut(machine);
    uint8_t byte = 0;
    EXPECT_OK(machine.vm->memory().Read(0x5000 + 29, {&byte, 1}));
    return byte;
  };
  EXPECT_EQ(flags() & 2, 0);
  ASSERT_OK(machine.vcpu->NotifyPaused());
  EXPECT_EQ(flags() & 2, 2);
}

TEST_F(KvmState, AnEdgeThroughTheIoapicReachesTheLapicAndMovesWithIt) {
  Machine machine = Booted(Counter());
  ChangeLapic(machine, [](LapicRegisters*) {});
  SetRedirection(machine, 4, 0x41);  // edge, fixed, to APIC 0
  const Fd event = MakeEventFd().value();
  ASSERT_OK(machine.vm->RegisterIrqfd(event, 4, nullptr));
  EXPECT_FALSE(HasVector(machine, kIrr, 0x41));
  ASSERT_EQ(eventfd_write(event.get(), 1), 0);
  EXPECT_TRUE(SoonHasVector(machine, 0x41));
  Machine moved = Moved(machine);
  EXPECT_TRUE(HasVector(moved, kIrr, 0x41)) << "a pending interrupt is not lost";
}

TEST_F(KvmState, ALineThroughTheIoapic) {
  Machine machine = Booted(Counter());
  ChangeLapic(machine, [](LapicRegisters*) {});
  SetRedirection(machine, 5, 0x45);
  const std::unique_ptr<IrqLine> line = machine.vm->MakeIrqLine(5).value();
  line->Pulse();
  EXPECT_TRUE(SoonHasVector(machine, 0x45));
}

TEST_F(KvmState, AMaskedPinWaits) {
  Machine machine = Booted(Counter());
  ChangeLapic(machine, [](LapicRegisters*) {});
  SetRedirection(machine, 6, IoapicRedirection::kMasked | IoapicRedirection::kLevel | 0x46);
  const std::unique_ptr<IrqLine> line = machine.vm->MakeIrqLine(6).value();
  line->Set(true);
  EXPECT_EQ(Ioapic(machine).irr, 1u << 6);
  EXPECT_FALSE(HasVector(machine, kIrr, 0x46));
  Machine moved = Moved(machine);
  EXPECT_EQ(Ioapic(moved).irr, 1u << 6);
  SetRedirection(moved, 6, IoapicRedirection::kLevel | 0x46);
  EXPECT_TRUE(SoonHasVector(moved, 0x46)) << "unmasked in the second VM";
}

TEST_F(KvmState, MsisGoWhereTheirRoutesSay) {
  Machine machine = Booted(Counter());
  ChangeLapic(machine, [](LapicRegisters*) {});
  IrqRoutes routes = IrqRoutes::Pc();
  ASSERT_OK(routes.AddMsi(24, {0xFEE00000, 0x51}));
  ASSERT_OK(routes.AddMsi(25, {0xFEE00000, 0x52}));
  ASSERT_OK(machine.vm->SetIrqRoutes(routes));
  const Fd a = MakeEventFd().value(), b = MakeEventFd().value();
  ASSERT_OK(machine.vm->RegisterIrqfd(a, 24, nullptr));
  ASSERT_OK(machine.vm->RegisterIrqfd(b, 25, nullptr));
  ASSERT_EQ(eventfd_write(b.get(), 1), 0);
  EXPECT_TRUE(SoonHasVector(machine, 0x52));
  EXPECT_FALSE(HasVector(machine, kIrr, 0x51));
  ASSERT_OK(routes.SetMsi(24, {0xFEE00000, 0x77}));
  ASSERT_OK(machine.vm->SetIrqRoutes(routes));
  ASSERT_EQ(eventfd_write(a.get(), 1), 0);
  EXPECT_TRUE(SoonHasVector(machine, 0x77)) << "as it was changed";
  EXPECT_FALSE(HasVector(machine, kIrr, 0x51));
}

TEST_F(KvmState, MsisWithASplitIrqchip) {
  if (!hypervisor_->capabilities().split_irqchip) GTEST_SKIP() << "SKIPPED: no split irqchip here";
  Machine machine = Make(/*irqchip=*/false);
  machine.vcpu.reset();
  machine.vm = hypervisor_->CreateVm(GuestMemory::Create({{0, kRam}}).value()).value();
  ASSERT_OK(machine.vm->CreateIrqchip({.pit = false, .split = true}));
  machine.vcpu = machine.vm->CreateVcpu(0, 1).value();
  ASSERT_OK(machine.vcpu->SetUpForBoot({.rip = kCode, .rsp = 0x8000}));
  ChangeLapic(machine, [](LapicRegisters*) {});
  IrqRoutes routes;
  ASSERT_OK(routes.AddMsi(24, {0xFEE00000, 0x53}));
  ASSERT_OK(machine.vm->SetIrqRoutes(routes));
  const Fd event = MakeEventFd().value();
  ASSERT_OK(machine.vm->RegisterIrqfd(event, 24, nullptr));
  ASSERT_EQ(eventfd_write(event.get(), 1), 0);
  EXPECT_TRUE(SoonHasVector(machine, 0x53));
}

TEST_F(KvmState, EndOfInterruptSignalsTheResampleEvent) {
  if (!hypervisor_->capabilities().irqfd_resample) GTEST_SKIP() << "SKIPPED: no resample here";
  constexpr uint32_t kVector = 0x61, kPin = 10;
  Machine machine = Booted(MiniGuest().StoreEax(kEoi).OutAl(0x10).Spin());
  ChangeLapic(machine, [](LapicRegisters*) {});
  SetRedirection(machine, kPin, IoapicRedirection::kLevel | kVector);
  const Fd event = MakeEventFd().value(), resample = MakeEventFd().value();
  ASSERT_OK(machine.vm->RegisterIrqfd(event, kPin, &resample));
  ASSERT_EQ(eventfd_write(event.get(), 1), 0);
  ASSERT_TRUE(SoonHasVector(machine, kVector));
  EXPECT_TRUE(Ioapic(machine).redirections[kPin].bits & IoapicRedirection::kRemoteIrr);
  // As if the vCPU had taken the interrupt, and were at the end of its handler.
  ChangeLapic(machine, [](LapicRegisters* lapic) {
    SetLapicRegister(lapic, kIrr + kVector / 32 * 16, 0);
    SetLapicRegister(lapic, kIsr + kVector / 32 * 16, 1u << kVector % 32);
    SetLapicRegister(lapic, kTmr + kVector / 32 * 16, 1u << kVector % 32);
  });
  struct pollfd poll_resample = {.fd = resample.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&poll_resample, 1, 0), 0);
  NextOut(machine);
  EXPECT_EQ(poll(&poll_resample, 1, 30'000), 1);
  EXPECT_FALSE(Ioapic(machine).redirections[kPin].bits & IoapicRedirection::kRemoteIrr);
}

}  // namespace
}  // namespace drover
