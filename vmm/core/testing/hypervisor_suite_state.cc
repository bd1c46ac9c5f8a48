// What can be saved and restored: vCPUs, interrupt controllers, routes, clocks, single MSRs. No
// guest code runs.
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "vmm/base/status_matchers.h"
#include "vmm/core/testing/hypervisor_suite.h"

namespace drover {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;

constexpr uint32_t kTscAux = 0xC0000103;
constexpr uint32_t kPat = 0x277;
constexpr uint32_t kSysenterEsp = 0x175;

auto IsRefused(StatusCode code, int error) { return AllOf(StatusIs(code), HasErrno(error)); }
auto MalformedError() { return IsRefused(StatusCode::kInvalidArgument, EINVAL); }
auto PreconditionError() { return StatusIs(StatusCode::kFailedPrecondition); }

// The TSC runs on while states are compared.
VcpuState Still(VcpuState state) {
  state.tsc.value = 0;
  return state;
}

VcpuState Saved(Vcpu& vcpu) {
  const absl::StatusOr<VcpuState> state = vcpu.SaveState();
  EXPECT_OK(state);
  return state.ok() ? Still(*state) : VcpuState();
}

// Difference of states at two moments: where the host's TSC is unstable, an offset drifts by what
// passes between KVM's calls.
std::string DifferenceButTime(VcpuState a, const VcpuState& b) {
  const auto drift = static_cast<int64_t>(a.tsc.offset.value_or(0) - b.tsc.offset.value_or(0));
  if (a.tsc.offset && b.tsc.offset && std::abs(drift) < int64_t{a.tsc.khz} * 1000)
    a.tsc.offset = b.tsc.offset;
  return Difference(a, b);
}
#define EXPECT_SAME_STATE(a, b) EXPECT_EQ(DifferenceButTime(a, b), "")

// A VM of one vCPU that is set up but has not run.
class OneVcpu {
 public:
  explicit OneVcpu(std::unique_ptr<Vm> vm, bool set_up = true, bool irqchip = true)
      : vm_(std::move(vm)) {
    EXPECT_OK(irqchip ? vm_->CreateIrqchip({}) : absl::OkStatus());
    vcpu_ = vm_->CreateVcpu(0, 1).value();
    EXPECT_OK(set_up ? vcpu_->SetUpForBoot({.rip = 0x1000, .rsp = 0x2000, .rbx = 0x3000})
                     : absl::OkStatus());
  }
  Vm& vm() { return *vm_; }
  Vcpu& operator*() { return *vcpu_; }
  Vcpu* operator->() { return vcpu_.get(); }

 private:
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<Vcpu> vcpu_;
};

TEST_P(HypervisorSuite, StateOfAVcpuAtBoot) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  const VcpuState state = Saved(*vcpu);
  EXPECT_EQ(state.id, 0u);
  EXPECT_EQ(state.regs.rip, 0x1000u);
  EXPECT_EQ(state.regs.rsp, 0x2000u);
  EXPECT_EQ(state.regs.rbx, 0x3000u);
  EXPECT_FALSE(state.cpuid.empty());
  EXPECT_FALSE(state.msrs.empty());
  EXPECT_GT(state.tsc.khz, 0u);
  EXPECT_GE(state.xsave.size(), 4096u);
  EXPECT_TRUE(state.lapic.has_value());
  EXPECT_EQ(state.mp_state, MpState::kRunnable);
  EXPECT_EQ(state.nested.has_value(), hypervisor().capabilities().nested_state_bytes != 0);
}

TEST_P(HypervisorSuite, StateOfAVcpuThatWasNeverSetUp) {
  OneVcpu vcpu(MakeVm({{0, kRam}}), /*set_up=*/false);
  EXPECT_THAT(vcpu->SaveState(), PreconditionError());
}

TEST_P(HypervisorSuite, StateRoundTripIsEqual) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  const VcpuState state = Saved(*vcpu);
  ASSERT_OK(vcpu->RestoreState(state));
  EXPECT_SAME_STATE(Saved(*vcpu), state);
  ASSERT_OK(vcpu->RestoreState(state)) << "again";
  EXPECT_SAME_STATE(Saved(*vcpu), state);
}

// A value of its own in every part that a host keeps as it was given.
VcpuState Unusual(VcpuState state) {
  uint64_t n = 0x1111;
  GeneralRegisters& r = state.regs;
  for (uint64_t* reg : {&r.rax, &r.rbx, &r.rcx, &r.rdx, &r.rsi, &r.rdi, &r.rsp, &r.rbp, &r.r8,
                        &r.r9, &r.r10, &r.r11, &r.r12, &r.r13, &r.r14, &r.r15, &r.rip})
    *reg = n += 0x1111;
  state.sregs.cr2 = 0xABC000;
  state.sregs.fs.base = 0x12345000;
  state.debug.db = {0x1000, 0x2000, 0x3000, 0x4000};
  state.debug.dr7 = 0x455;
  state.xsave[32] = 0x77;  // ST0
  state.xsave[512] |= 1;   // XSTATE_BV: x87 in use
  FindMsr(&state, kSysenterEsp)->value = 42;
  FindMsr(&state, kPat)->value = 0x0606060606060606;
  return state;
}

TEST_P(HypervisorSuite, StateOfEveryPartComesBack) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  const VcpuState state = Unusual(Saved(*vcpu));
  ASSERT_OK(vcpu->RestoreState(state));
  const VcpuState now = Saved(*vcpu);
  EXPECT_EQ(now.regs, state.regs);
  EXPECT_EQ(now.sregs, state.sregs);
  EXPECT_EQ(now.debug, state.debug);
  EXPECT_EQ(now.xsave[32], 0x77);
  EXPECT_EQ(FindMsr(now, kSysenterEsp)->value, 42u);
  EXPECT_EQ(FindMsr(now, kPat)->value, 0x0606060606060606u);
}

TEST_P(HypervisorSuite, StateIntoASecondVm) {
  OneVcpu source(MakeVm({{0, kRam}}));
  ASSERT_OK(source->RestoreState(Unusual(Saved(*source))));
  const VcpuState state = Saved(*source);
  OneVcpu fresh(MakeVm({{0, kRam}}), /*set_up=*/false);
  ASSERT_OK(fresh->RestoreState(state)) << "instead of SetUpForBoot";
  EXPECT_SAME_STATE(Saved(*fresh), state);
  OneVcpu set_up(MakeVm({{0, kRam}}));
  ASSERT_OK(set_up->RestoreState(state)) << "after SetUpForBoot";
  EXPECT_SAME_STATE(Saved(*set_up), state);
}

TEST_P(HypervisorSuite, StateOfAWaitingVcpu) {
  GiveIrqchip();
  const std::unique_ptr<Vm> other = MakeVm({{0, kRam}});
  ASSERT_OK(other->CreateIrqchip({}));
  const std::unique_ptr<Vcpu> a = vm().CreateVcpu(1, 2).value();
  const std::unique_ptr<Vcpu> b = other->CreateVcpu(1, 2).value();
  ASSERT_OK(a->SetUpForBoot({}));
  const VcpuState state = Saved(*a);
  EXPECT_EQ(state.mp_state, MpState::kUninitialized);
  ASSERT_OK(b->RestoreState(state));
  EXPECT_SAME_STATE(Saved(*b), state);
}

TEST_P(HypervisorSuite, PeerMpState) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  VcpuState state = Saved(*vcpu);
  for (const MpState mp :
       {MpState::kHalted, MpState::kUninitialized, MpState::kInitReceived, MpState::kRunnable}) {
    state.mp_state = mp;
    ASSERT_OK(vcpu->RestoreState(state));
    EXPECT_EQ(Saved(*vcpu).mp_state, mp);
  }
}

TEST_P(HypervisorSuite, StateWithoutIrqchip) {
  OneVcpu a(MakeVm({{0, kRam}}), true, /*irqchip=*/false);
  OneVcpu b(MakeVm({{0, kRam}}), false, /*irqchip=*/false);
  const VcpuState state = Saved(*a);
  EXPECT_FALSE(state.lapic.has_value());
  ASSERT_OK(b->RestoreState(state));
  EXPECT_SAME_STATE(Saved(*b), state);
  OneVcpu with_lapic(MakeVm({{0, kRam}}));
  EXPECT_THAT(with_lapic->RestoreState(state), MalformedError());
  EXPECT_THAT(b->RestoreState(Saved(*with_lapic)), MalformedError());
}

TEST_P(HypervisorSuite, PeerDebugregs) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  VcpuState state = Saved(*vcpu);
  state.debug.dr7 = 13;
  ASSERT_OK(vcpu->RestoreState(state));
  EXPECT_EQ(Saved(*vcpu).debug.dr7 | 0x400, 13u | 0x400) << "bit 10 is always one";
}

// What the guest is in the middle of: exceptions, interrupts and NMIs on their way, the shadow of
// an STI, a start-up vector.
TEST_P(HypervisorSuite, PendingEventsComeBack) {
  constexpr uint32_t kNmi = 1, kSipi = 2, kShadow = 4;  // KVM_VCPUEVENT_VALID_*
  OneVcpu vcpu(MakeVm({{0, kRam}}), true, /*irqchip=*/false);
  const VcpuState at_boot = Saved(*vcpu);
  std::vector<VcpuEvents> cases(4, at_boot.events);
  cases[0].exception = {
      .injected = 1, .pending = 0, .vector = 13, .has_error_code = 1, .error_code = 0x18};
  cases[1].interrupt.injected = 1;
  cases[1].interrupt.vector = 0x41;
  cases[2].flags |= kNmi;
  cases[2].nmi = {.injected = 0, .pending = 1, .masked = 0};
  cases[3].flags |= kShadow;
  cases[3].interrupt.shadow = 1;
  for (const VcpuEvents& events : cases) {
    VcpuState state = at_boot;
    state.events = events;
    state.events.flags &= ~kSipi;  // KVM never gives one back
    ASSERT_OK(vcpu->RestoreState(state));
    const VcpuEvents now = Saved(*vcpu).events;
    EXPECT_EQ(now.exception, events.exception);
    EXPECT_EQ(now.interrupt.injected, events.interrupt.injected);
    EXPECT_EQ(now.interrupt.vector, events.interrupt.vector);
    EXPECT_EQ(now.interrupt.shadow != 0, events.interrupt.shadow != 0);
    EXPECT_EQ(now.nmi, events.nmi);
  }
}

// The x87 part of struct kvm_fpu is the beginning of the XSAVE area (SDM vol. 1 §10.5.1).
TEST_P(HypervisorSuite, PeerFromFpu) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  VcpuState state = Saved(*vcpu);
  const std::vector<uint8_t> fpu = {0x7F, 0x02, 0x00, 0x38, 0xFF};  // FCW, FSW, FTW (all valid)
  std::copy(fpu.begin(), fpu.end(), state.xsave.begin());
  for (size_t i = 0; i < 8 * 16; ++i)
    state.xsave[32 + i] = i % 16 < 10 ? static_cast<uint8_t>(i + 1) : 0;
  for (size_t i = 0; i < 8 * 16; ++i) state.xsave[160 + i] = static_cast<uint8_t>(0x80 + i);
  state.xsave[512] |= 3;  // XSTATE_BV: x87 and SSE
  ASSERT_OK(vcpu->RestoreState(state));
  const std::vector<uint8_t> now = Saved(*vcpu).xsave;
  EXPECT_EQ(std::vector(now.begin(), now.begin() + 5), fpu);
  EXPECT_EQ(std::vector(now.begin() + 32, now.begin() + 288),
            std::vector(state.xsave.begin() + 32, state.xsave.begin() + 288));
}

TEST_P(HypervisorSuite, PeerXcrs) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  VcpuState state = Saved(*vcpu);
  if (state.xcrs.empty()) GTEST_SKIP() << "SKIPPED: no XSAVE here";
  state.xcrs = {{0, 1}};
  ASSERT_OK(vcpu->RestoreState(state));
  EXPECT_EQ(Saved(*vcpu).xcrs, state.xcrs);
}

// Of a host without XSAVE: nothing of what was enabled before stays.
TEST_P(HypervisorSuite, AStateWithoutXcrsTurnsThemOff) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  VcpuState state = Saved(*vcpu);
  if (state.xcrs.empty()) GTEST_SKIP() << "SKIPPED: no XSAVE here";
  state.xcrs = {{0, 3}};
  if (!vcpu->RestoreState(state).ok()) GTEST_SKIP() << "SKIPPED: no SSE in XCR0 here";
  state.xcrs.clear();
  ASSERT_OK(vcpu->RestoreState(state));
  EXPECT_EQ(Saved(*vcpu).xcrs, (std::vector<XcrValue>{{0, 1}}));
}

TEST_P(HypervisorSuite, PeerGetSupportedCpuid) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  EXPECT_FALSE(Saved(*vcpu).cpuid.empty());
}

TEST_P(HypervisorSuite, PeerGetMsrIndexList) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  EXPECT_GE(Saved(*vcpu).msrs.size(), 2u);
}

TEST_P(HypervisorSuite, PeerGetMsr) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  EXPECT_OK(vcpu->GetMsr(kPat));
  EXPECT_THAT(vcpu->GetMsr(0xFFFFFFFF), IsRefused(StatusCode::kNotFound, ENOENT));
}

TEST_P(HypervisorSuite, PeerSetMsr) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  if (!vcpu->GetMsr(kTscAux).ok()) GTEST_SKIP() << "SKIPPED: no TSC_AUX here";
  ASSERT_OK(vcpu->SetMsr(kTscAux, 42));
  EXPECT_THAT(vcpu->GetMsr(kTscAux), IsOkAndHolds(42u));
  EXPECT_EQ(FindMsr(Saved(*vcpu), kTscAux)->value, 42u);
}

TEST_P(HypervisorSuite, PeerSetMsrUnsupported) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  const absl::Status refused = vcpu->SetMsr(0xFFFFFFFF, 5);
  EXPECT_THAT(refused, MalformedError());
  EXPECT_THAT(std::string(refused.message()), HasSubstr("MSR 0xffffffff"));
}

// A listed MSR and a value that this host refuses; hosts differ in what they check.
std::optional<MsrValue> RefusedMsr(Vcpu& vcpu) {
  constexpr MsrValue kCandidates[] = {
      {kPat, 0x99},                     // a memory type that there is not
      {0xC0000082, uint64_t{1} << 63},  // LSTAR: not canonical
      {0x10A, ~uint64_t{0}},            // IA32_ARCH_CAPABILITIES: more than the host's
  };
  for (const MsrValue& msr : kCandidates) {
    const absl::StatusOr<uint64_t> before = vcpu.GetMsr(msr.index);
    if (!before.ok()) continue;
    if (!vcpu.SetMsr(msr.index, msr.value).ok()) return msr;
    EXPECT_OK(vcpu.SetMsr(msr.index, *before));
  }
  return std::nullopt;
}

TEST_P(HypervisorSuite, AnMsrThatDoesNotTakeIsNamed) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  const std::optional<MsrValue> msr = RefusedMsr(*vcpu);
  if (!msr) GTEST_SKIP() << "SKIPPED: this host takes every value that was tried";
  const VcpuState good = Saved(*vcpu);
  VcpuState state = good;
  FindMsr(&state, msr->index)->value = msr->value;
  const std::string named =
      absl::StrFormat("MSR %#x does not take the value %#x", msr->index, msr->value);
  for (const absl::Status& refused :
       {vcpu->RestoreState(state), vcpu->SetMsr(msr->index, msr->value)}) {
    EXPECT_THAT(refused, MalformedError());
    EXPECT_THAT(std::string(refused.message()), HasSubstr(named));
  }
  EXPECT_THAT(vcpu->Run(), PreconditionError()) << "a mixture never runs";
  EXPECT_THAT(vcpu->SaveState(), PreconditionError());
  EXPECT_OK(vcpu->RestoreState(good)) << "and a good state makes it whole again";
  EXPECT_SAME_STATE(Saved(*vcpu), good);
}

TEST_P(HypervisorSuite, AMixtureIsMadeWholeByAReset) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  const std::optional<MsrValue> msr = RefusedMsr(*vcpu);
  if (!msr) GTEST_SKIP() << "SKIPPED: this host takes every value that was tried";
  VcpuState state = Unusual(Saved(*vcpu));
  FindMsr(&state, msr->index)->value = msr->value;
  EXPECT_THAT(vcpu->RestoreState(state), MalformedError());
  VcpuState malformed = state;
  malformed.id = 1;
  EXPECT_THAT(vcpu->RestoreState(malformed), MalformedError());
  EXPECT_THAT(vcpu->Run(), PreconditionError()) << "still";
  ASSERT_OK(vcpu->SetUpForBoot({.rip = 0x1000, .rsp = 0x2000}));
  EXPECT_EQ(Saved(*vcpu).regs.rip, 0x1000u);
  EXPECT_EQ(FindMsr(Saved(*vcpu), kSysenterEsp)->value, 0u);
}

bool IsVendorLeaf(const CpuidEntry& entry) { return entry.leaf == 0; }

TEST_P(HypervisorSuite, MalformedStatesChangeNothing) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  const VcpuState before = Saved(*vcpu);
  const struct {
    const char* part;
    std::function<void(VcpuState&)> spoil;
  } cases[] = {
      {"id", [](VcpuState& s) { s.id = 1; }},
      {"cpuid", [](VcpuState& s) { s.cpuid.clear(); }},
      {"cpuid", [](VcpuState& s) { s.cpuid.push_back(s.cpuid[0]); }},
      {"cpuid", [](VcpuState& s) { s.cpuid.resize(257); }},
      {"vendor", [](VcpuState& s) { s.cpuid[0].ebx ^= 1; }},
      {"vendor", [](VcpuState& s) { std::erase_if(s.cpuid, IsVendorLeaf); }},
      {"tsc", [](VcpuState& s) { s.tsc.khz = 0; }},
      {"sregs", [](VcpuState& s) { s.sregs.ss.type = 99; }},
      {"sregs", [](VcpuState& s) { s.sregs.efer |= 1 << 10; }},
      {"sregs", [](VcpuState& s) { s.sregs.cr8 = 99; }},
      {"xcrs",
       [](VcpuState& s) {
         s.xcrs = {{0, 0}};
       }},
      {"xcrs",
       [](VcpuState& s) {
         s.xcrs = {{3, 1}};
       }},
      {"xsave", [](VcpuState& s) { s.xsave.clear(); }},
      {"xsave", [](VcpuState& s) { s.xsave.resize(s.xsave.size() + 4096); }},
      {"xsave", [](VcpuState& s) { s.xsave.resize(s.xsave.size() - 1); }},
      {"debug", [](VcpuState& s) { s.debug.dr6 = ~uint64_t{0}; }},
      {"lapic", [](VcpuState& s) { s.lapic.reset(); }},
      {"msrs", [](VcpuState& s) { std::swap(s.msrs[0], s.msrs[1]); }},
      {"msrs", [](VcpuState& s) { s.msrs.push_back(s.msrs.back()); }},
      {"MSR 0xffffffff (value 0x9)",
       [](VcpuState& s) {
         s.msrs.push_back({~0u, 9});
       }},
      {"events", [](VcpuState& s) { s.events.exception = {.injected = 1, .vector = 77}; }},
      {"events", [](VcpuState& s) { s.events.flags = ~0u; }},
      {"mp_state", [](VcpuState& s) { s.mp_state = static_cast<MpState>(99); }},
      {"nested", [](VcpuState& s) { s.nested.emplace().size = 7; }},
      {"nested", [](VcpuState& s) { s.nested = NestedStateBuffer::Empty(); }},
  };
  for (const auto& [part, spoil] : cases) {
    VcpuState state = Unusual(before);
    spoil(state);
    const absl::Status refused = vcpu->RestoreState(state);
    EXPECT_THAT(refused, MalformedError()) << part;
    EXPECT_THAT(std::string(refused.message()), HasSubstr(part));
    EXPECT_SAME_STATE(Saved(*vcpu), before);
  }
}

TEST_P(HypervisorSuite, NestedStateOfTheOtherVendor) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  VcpuState state = Saved(*vcpu);
  const NestedFormat own =
      state.nested ? static_cast<NestedFormat>(state.nested->format) : NestedFormat::kSvm;
  state.nested =
      NestedStateBuffer::Idle(own == NestedFormat::kSvm ? NestedFormat::kVmx : NestedFormat::kSvm);
  EXPECT_THAT(vcpu->RestoreState(state), MalformedError());
}

TEST_P(HypervisorSuite, PeerTscOffsets) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  VcpuState state = Saved(*vcpu);
  if (!state.tsc.offset) GTEST_SKIP() << "SKIPPED: no KVM_VCPU_TSC_OFFSET here";
  for (const uint64_t offset : {uint64_t{0}, uint64_t{10'000'000'000}, ~uint64_t{999}}) {
    state.tsc.offset = offset;
    const absl::Status restored = vcpu->RestoreState(state);
    if (absl::IsUnimplemented(restored)) GTEST_SKIP() << "SKIPPED: " << restored;
    ASSERT_OK(restored);
    EXPECT_SAME_STATE(Saved(*vcpu), state);
  }
}

TEST_P(HypervisorSuite, ATscFrequencyThatTheHostCannotGive) {
  if (hypervisor().capabilities().tsc_control) GTEST_SKIP() << "SKIPPED: this host can give any";
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  VcpuState state = Saved(*vcpu);
  state.tsc.khz *= 2;
  EXPECT_THAT(vcpu->RestoreState(state), IsRefused(StatusCode::kUnimplemented, EOPNOTSUPP));
}

TEST_P(HypervisorSuite, ResetAfterRestore) {
  OneVcpu vcpu(MakeVm({{0, kRam}}));
  const VcpuState at_boot = Saved(*vcpu);
  OneVcpu other(MakeVm({{0, kRam}}), /*set_up=*/false);
  ASSERT_OK(other->RestoreState(Unusual(at_boot)));
  ASSERT_OK(other->SetUpForBoot({.rip = 0x1000, .rsp = 0x2000, .rbx = 0x3000}));
  const VcpuState reset = Saved(*other);
  EXPECT_EQ(reset.regs, at_boot.regs);
  EXPECT_EQ(reset.sregs.fs, at_boot.sregs.fs);
  EXPECT_EQ(FindMsr(reset, kSysenterEsp)->value, 0u);
  EXPECT_EQ(FindMsr(reset, kPat)->value, FindMsr(at_boot, kPat)->value);
}

TEST_P(HypervisorSuite, IrqchipStateNeedsAnIrqchip) {
  EXPECT_THAT(vm().SaveIrqchip(), PreconditionError());
  EXPECT_THAT(vm().RestoreIrqchip(PcIrqchipState()), PreconditionError());
  EXPECT_THAT(vm().SetIrqRoutes({}), PreconditionError());
}

TEST_P(HypervisorSuite, IrqchipStateRoundTripIsEqual) {
  GiveIrqchip();
  ASSERT_OK_AND_ASSIGN(const IrqchipState state, vm().SaveIrqchip());
  ASSERT_OK(vm().RestoreIrqchip(state));
  EXPECT_THAT(vm().SaveIrqchip(), IsOkAndHolds(state));
}

// PIC, I/O APIC and PIT with values of a running PC's (the twins of crosvm's pic_state,
// ioapic_state and pit_state are here and in core).
PcIrqchipState UnusualIrqchip(PcIrqchipState state) {
  state.pic_master.irq_base = 0x30;
  state.pic_master.imr = 0xFB;
  state.pic_slave.irq_base = 0x38;
  state.pic_slave.imr = 0xFF;
  state.ioapic.id = 5;
  state.ioapic.selected_register = 0x12;
  state.ioapic.redirections[4].bits = IoapicRedirection::kMasked | 0x41;
  state.ioapic.redirections[11].bits =
      uint64_t{1} << 56 | IoapicRedirection::kMasked | IoapicRedirection::kLevel | 0x51;
  if (!state.pit) return state;
  state.pit->channels[2].mode = 3;
  state.pit->channels[2].rw_mode = 3;
  state.pit->channels[2].count = 1193;
  state.pit->flags = PitState::kSpeakerDataOn;
  return state;
}

TEST_P(HypervisorSuite, IrqchipStateIntoASecondVm) {
  for (const bool pit : {true, false}) {
    const std::unique_ptr<Vm> a = MakeVm({{0, kRam}}), b = MakeVm({{0, kRam}});
    ASSERT_OK(a->CreateIrqchip({.pit = pit}));
    ASSERT_OK(b->CreateIrqchip({.pit = pit}));
    ASSERT_OK_AND_ASSIGN(IrqchipState state, a->SaveIrqchip());
    ASSERT_TRUE(std::holds_alternative<PcIrqchipState>(state));
    EXPECT_EQ(std::get<PcIrqchipState>(state).pit.has_value(), pit);
    const IrqchipState unusual = UnusualIrqchip(std::get<PcIrqchipState>(state));
    ASSERT_OK(a->RestoreIrqchip(unusual));
    ASSERT_OK_AND_ASSIGN(state, a->SaveIrqchip());
    EXPECT_EQ(state, unusual);
    ASSERT_OK(b->RestoreIrqchip(state));
    EXPECT_THAT(b->SaveIrqchip(), IsOkAndHolds(state));
  }
}

TEST_P(HypervisorSuite, ResetIrqchipUndoesARestore) {
  GiveIrqchip();
  ASSERT_OK_AND_ASSIGN(const IrqchipState at_power_on, vm().SaveIrqchip());
  ASSERT_OK(vm().RestoreIrqchip(UnusualIrqchip(std::get<PcIrqchipState>(at_power_on))));
  ASSERT_OK(vm().ResetIrqchip());
  EXPECT_THAT(vm().SaveIrqchip(), IsOkAndHolds(at_power_on));
}

TEST_P(HypervisorSuite, MalformedIrqchipStatesChangeNothing) {
  GiveIrqchip();
  ASSERT_OK_AND_ASSIGN(const IrqchipState before, vm().SaveIrqchip());
  const PcIrqchipState good = UnusualIrqchip(std::get<PcIrqchipState>(before));
  PcIrqchipState no_pit = good, pic = good, ioapic = good, pit = good;
  no_pit.pit.reset();
  pic.pic_slave.init_state = 9;
  ioapic.ioapic.redirections[3].bits = ~uint64_t{0};
  pit.pit->channels[0].mode = 9;
  for (const IrqchipState& state :
       std::vector<IrqchipState>{no_pit, pic, ioapic, pit, SplitIrqchipState{}}) {
    EXPECT_THAT(vm().RestoreIrqchip(state), MalformedError());
    EXPECT_THAT(vm().SaveIrqchip(), IsOkAndHolds(before));
  }
}

TEST_P(HypervisorSuite, SplitIrqchipState) {
  if (!hypervisor().capabilities().split_irqchip) GTEST_SKIP() << "SKIPPED: no split irqchip here";
  ASSERT_OK(vm().CreateIrqchip({.pit = false, .split = true}));
  EXPECT_THAT(vm().SaveIrqchip(), IsOkAndHolds(IrqchipState(SplitIrqchipState{})));
  EXPECT_OK(vm().RestoreIrqchip(SplitIrqchipState{}));
  EXPECT_THAT(vm().RestoreIrqchip(PcIrqchipState()), MalformedError());
  EXPECT_THAT(vm().SetIrqRoutes(IrqRoutes::Pc()), MalformedError());
  IrqRoutes routes;
  ASSERT_OK(routes.AddMsi(24, {0xFEE00000, 0x41}));
  EXPECT_OK(vm().SetIrqRoutes(routes));
  const std::unique_ptr<Vcpu> vcpu = vm().CreateVcpu(0, 1).value();
  ASSERT_OK(vcpu->SetUpForBoot({}));
  const VcpuState state = Saved(*vcpu);
  EXPECT_TRUE(state.lapic.has_value());
  EXPECT_OK(vcpu->RestoreState(state));
}

TEST_P(HypervisorSuite, PeerSetGsiRouting) {
  GiveIrqchip();
  EXPECT_OK(vm().SetIrqRoutes({}));
  IrqRoutes irqchip, msi, both;
  ASSERT_OK(irqchip.AddPin(1, {IrqchipPin::Chip::kPicMaster, 2}));
  EXPECT_OK(vm().SetIrqRoutes(irqchip));
  ASSERT_OK(msi.AddMsi(1, {0xFEE01000, 0xAB}));
  EXPECT_OK(vm().SetIrqRoutes(msi));
  ASSERT_OK(both.AddPin(1, {IrqchipPin::Chip::kIoapic, 2}));
  ASSERT_OK(both.AddMsi(2, {0xFEE01000, 0xAB}));
  EXPECT_OK(vm().SetIrqRoutes(both));
  EXPECT_OK(vm().SetIrqRoutes(IrqRoutes::Pc()));
}

TEST_P(HypervisorSuite, AFullTableOfRoutes) {
  GiveIrqchip();
  IrqRoutes routes;
  for (uint32_t gsi = 0; gsi < IrqRoutes::kMaxGsi; ++gsi)
    ASSERT_OK(routes.AddMsi(gsi, {0xFEE00000, 0x41}));
  EXPECT_OK(vm().SetIrqRoutes(routes));
}

}  // namespace
}  // namespace drover
