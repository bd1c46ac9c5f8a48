// Instructions, registers and injected events as real guests see them on KVM: twins of crosvm's
// hypervisor/tests/hypervisor_virtualization.rs and real_run_addr.rs, under their names. What has
// no twin has no meaning here: the windows for interrupts that a VMM injects (interrupt_ready...,
// request_interrupt_window, interrupt_injection_when_not_ready), since a Drover VM's interrupt
// controllers are KVM's, and what only other hypervisors need (mmio_fetch_memory).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <thread>
#include <vector>

#include "vmm/base/status_matchers.h"
#include "vmm/kvm/testing/kvm_for_test.h"

namespace drover {
namespace {

using testing::ElementsAre;

constexpr uint64_t kRam = 1 << 20;
constexpr uint64_t kCode = 0x1000;
constexpr uint16_t kHandler = 0x3000;
constexpr uint64_t kAlignmentMask = 1 << 18, kPaging = 1u << 31;                      // CR0
constexpr uint64_t kTimeStampDisable = 1 << 2, kOsFxsr = 1 << 9, kOsXsave = 1 << 18;  // CR4

using Bytes = std::vector<uint8_t>;

class KvmPeerGuest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<KvmHypervisor>> opened = OpenKvmForTest();
    if (absl::IsUnavailable(opened.status())) GTEST_SKIP() << "SKIPPED: " << opened.status();
    ASSERT_OK(opened);
    hypervisor_ = *std::move(opened);
    ASSERT_OK_AND_ASSIGN(vm_, hypervisor_->CreateVm(GuestMemory::Create({{0, kRam}}).value()));
    ASSERT_OK_AND_ASSIGN(vcpu_, vm_->CreateVcpu(0, 1));
    ASSERT_OK(vcpu_->SetUpForBoot({.rip = kCode, .rsp = 0x8000}));
    ASSERT_OK_AND_ASSIGN(state_, vcpu_->SaveState());
  }

  void Write(uint64_t address, const Bytes& bytes) {
    ASSERT_OK(vm_->memory().Write(address, bytes));
  }
  uint8_t ByteAt(uint64_t address) {
    uint8_t byte = 0;
    EXPECT_OK(vm_->memory().Read(address, {&byte, 1}));
    return byte;
  }

  // 16-bit code, segments at 0.
  void RealMode() {
    SystemRegisters& s = state_.sregs;
    s.cr0 &= ~uint64_t{1};
    for (SegmentState* segment : {&s.cs, &s.ds, &s.es, &s.fs, &s.gs, &s.ss}) {
      *segment = {.base = 0, .limit = 0xFFFF, .selector = 0, .type = 3, .dpl = 0, .present = 1};
      segment->s = 1;
    }
    s.cs.type = 11;
    s.idt = {.base = 0, .limit = 0x3FF};
  }
  // Of real mode.
  void SetHandler(uint8_t vector, const Bytes& code) {
    Write(uint64_t{vector} * 4, {kHandler & 0xFF, kHandler >> 8, 0, 0});
    Write(kHandler, code);
  }

  // Runs `code` from state_, which becomes what the vCPU is at the end: HLT, unless the guest shut
  // down. Bytes to ports are in out_. Skips the test where this KVM cannot emulate an instruction.
  void Run(const Bytes& code) {
    Write(kCode, code);
    ASSERT_OK(vcpu_->RestoreState(state_));
    shut_down_ = false;
    for (int i = 0; i < 100; ++i) {
      ASSERT_OK_AND_ASSIGN(const VcpuExit exit, vcpu_->Run());
      if (const auto* port = std::get_if<PortExit>(&exit)) {
        out_.insert(out_.end(), port->data.begin(), port->data.end());
        continue;
      }
      const auto* error = std::get_if<InternalErrorExit>(&exit);
      if (error != nullptr && error->emulation)
        GTEST_SKIP() << "SKIPPED: this KVM does not emulate it\n" << vcpu_->DumpRegisters();
      shut_down_ = std::holds_alternative<ShutdownExit>(exit);
      ASSERT_TRUE(shut_down_ || std::holds_alternative<HaltExit>(exit))
          << "exit kind " << exit.index() << "\n"
          << vcpu_->DumpRegisters();
      ASSERT_OK_AND_ASSIGN(state_, vcpu_->SaveState());
      return;
    }
    FAIL() << "no halt in 100 exits";
  }

  GeneralRegisters& regs() { return state_.regs; }

  std::unique_ptr<KvmHypervisor> hypervisor_;
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<Vcpu> vcpu_;
  VcpuState state_;
  Bytes out_;
  bool shut_down_ = false;
};

// Run, and no more of the test when it was skipped or failed.
#define RUN(...)                                  \
  do {                                            \
    Run(__VA_ARGS__);                             \
    if (IsSkipped() || HasFatalFailure()) return; \
  } while (false)

TEST_F(KvmPeerGuest, PeerRealRunAddr) {
  RealMode();
  regs().rax = 2;
  regs().rbx = 7;
  // mov dx, 0x3f8; add al, bl; add al, '0'; out dx, al; mov al, '\n'; out dx, al;
  // mov byte [0x2000], 0x13; hlt
  RUN({0xBA, 0xF8, 0x03, 0x00, 0xD8, 0x04, 0x30, 0xEE, 0xB0, 0x0A, 0xEE, 0xC6, 0x06, 0x00, 0x20,
       0x13, 0xF4});
  EXPECT_THAT(out_, ElementsAre('9', '\n'));
  EXPECT_EQ(ByteAt(0x2000), 0x13);
}

// The peer looks at a vCPU that was never set up; here that is one that waits for its SIPI.
TEST_F(KvmPeerGuest, PeerRealRunAddrResetVector) {
  ASSERT_OK_AND_ASSIGN(vm_, hypervisor_->CreateVm(GuestMemory::Create({{0, kRam}}).value()));
  ASSERT_OK(vm_->CreateIrqchip({}));
  ASSERT_OK_AND_ASSIGN(vcpu_, vm_->CreateVcpu(1, 2));
  ASSERT_OK(vcpu_->SetUpForBoot({}));
  ASSERT_OK_AND_ASSIGN(state_, vcpu_->SaveState());
  EXPECT_EQ(state_.sregs.cs.base, 0xFFFF0000u);
  EXPECT_EQ(state_.sregs.cs.selector, 0xF000);
  EXPECT_EQ(regs().rip, 0xFFF0u);
}

TEST_F(KvmPeerGuest, PeerMinimalVirtualization) {
  regs().rax = 1;
  regs().rbx = 2;
  RUN({0x01, 0xD8, 0xF4});  // add eax, ebx; hlt
  EXPECT_EQ(regs().rax, 3u);
  EXPECT_EQ(regs().rip, kCode + 3);
}

TEST_F(KvmPeerGuest, PeerCpuidExitHandler) {
  regs().rax = 1;
  RUN({0x0F, 0xA2, 0xF4});
  EXPECT_EQ(regs().rcx >> 31 & 1, 1u) << "there is a hypervisor";
  EXPECT_EQ(regs().rip, kCode + 3);
}

// The fault finds no handler.
TEST_F(KvmPeerGuest, PeerControlRegisterAccessInvalid) {
  regs().rax = kPaging | 0x10;                      // without CR0.PE
  RUN({0x0F, 0x22, 0xC0, 0xB9, 1, 0, 0, 0, 0xF4});  // mov cr0, eax; mov ecx, 1; hlt
  EXPECT_TRUE(shut_down_);
}

TEST_F(KvmPeerGuest, PeerControlRegisterAccessValid) {
  // mov eax, cr0; or eax, CR0.AM; mov cr0, eax; xor eax, eax; mov eax, cr0; hlt
  RUN({0x0F, 0x20, 0xC0, 0x0D, 0, 0, 4, 0, 0x0F, 0x22, 0xC0, 0x31, 0xC0, 0x0F, 0x20, 0xC0, 0xF4});
  EXPECT_NE(regs().rax & kAlignmentMask, 0u);
  EXPECT_NE(state_.sregs.cr0 & kAlignmentMask, 0u);
}

TEST_F(KvmPeerGuest, PeerSetCrVmm) {
  state_.sregs.cr0 |= kAlignmentMask;
  state_.sregs.cr3 = 0xFEEDF000;
  state_.sregs.cr4 |= kTimeStampDisable;
  // mov eax, cr0; mov ebx, cr3; mov ecx, cr4; hlt
  RUN({0x0F, 0x20, 0xC0, 0x0F, 0x20, 0xDB, 0x0F, 0x20, 0xE1, 0xF4});
  EXPECT_NE(regs().rax & kAlignmentMask, 0u);
  EXPECT_EQ(regs().rbx, 0xFEEDF000u);
  EXPECT_NE(regs().rcx & kTimeStampDisable, 0u);
}

TEST_F(KvmPeerGuest, PeerSetCrGuest) {
  regs().rax = state_.sregs.cr0 | kAlignmentMask;
  regs().rbx = 0xFEEDF000;
  regs().rcx = state_.sregs.cr4 | kTimeStampDisable;
  RUN({0x0F, 0x22, 0xC0, 0x0F, 0x22, 0xDB, 0x0F, 0x22, 0xE1, 0xF4});
  EXPECT_NE(state_.sregs.cr0 & kAlignmentMask, 0u);
  EXPECT_EQ(state_.sregs.cr3, 0xFEEDF000u);
  EXPECT_NE(state_.sregs.cr4 & kTimeStampDisable, 0u);
}

TEST_F(KvmPeerGuest, PeerDebugRegisterAccess) {
  regs().rax = 0x11223344;
  RUN({0x0F, 0x23, 0xD0, 0x0F, 0x21, 0xD3, 0xF4});  // mov dr2, eax; mov ebx, dr2; hlt
  EXPECT_EQ(regs().rbx, 0x11223344u);
  EXPECT_EQ(state_.debug.db[2], 0x11223344u);
}

TEST_F(KvmPeerGuest, PeerDebugRegisterPersistence) {
  state_.debug.db = {0x11111000, 0x22222000, 0x33333000, 0x44444000};
  state_.debug.dr7 = 0x4AA;  // global, on execution
  const DebugRegisters before = state_.debug;
  RUN({0xE6, 2, 0xE6, 2, 0xE6, 2, 0xF4});
  EXPECT_EQ(out_.size(), 3u);
  EXPECT_EQ(state_.debug, before);
}

TEST_F(KvmPeerGuest, PeerHardwareBreakpointWithIsr) {
  RealMode();
  SetHandler(1, {0x66, 0x31, 0xC0, 0x0F, 0x23, 0xF8, 0x41, 0xCF});  // dr7 = 0; inc cx; iret
  state_.debug.db[0] = kCode + 1;
  state_.debug.dr7 = 0x402;
  regs().rcx = 0;
  RUN({0x90, 0x43, 0xF4});  // nop; inc bx; hlt
  EXPECT_EQ(regs().rcx & 0xFFFF, 1u);
  EXPECT_EQ(regs().rbx & 0xFFFF, 1u) << "and it goes on where it was";
}

TEST_F(KvmPeerGuest, PeerMsrAccessValid) {
  // mov ecx, SYSENTER_ESP; mov eax, ...; xor edx, edx; wrmsr; xor eax, eax; rdmsr; hlt
  RUN({0xB9, 0x75, 1, 0, 0, 0xB8, 0x44, 0x33, 0x22, 0x11, 0x31, 0xD2, 0x0F, 0x30, 0x31, 0xC0, 0x0F,
       0x32, 0xF4});
  EXPECT_EQ(regs().rax, 0x11223344u);
  EXPECT_EQ(FindMsr(state_, 0x175)->value, 0x11223344u);
}

TEST_F(KvmPeerGuest, PeerRdtsc) {
  regs().rax = regs().rdx = 0;
  RUN({0x0F, 0x31, 0xF4});
  EXPECT_NE(regs().rax | regs().rdx, 0u);
}

TEST_F(KvmPeerGuest, PeerInvd) {
  RUN({0x0F, 0x08, 0xF4});
  EXPECT_FALSE(shut_down_);
  EXPECT_EQ(regs().rip, kCode + 3);
}

TEST_F(KvmPeerGuest, PeerXsetbv) {
  if (state_.xcrs.empty()) GTEST_SKIP() << "SKIPPED: no XSAVE here";
  state_.sregs.cr4 |= kOsXsave;
  regs().rcx = regs().rdx = 0;
  regs().rax = 3;
  RUN({0x0F, 0x01, 0xD1, 0xF4});
  EXPECT_FALSE(shut_down_);
  EXPECT_EQ(state_.xcrs, (std::vector<XcrValue>{{0, 3}}));
}

// A guest that is no hypervisor gets #UD for these, or KVM serves them, gives up on them or lets
// the guest try for ever: whatever it does, the VMM sees an exit, be it by a kick, and no error.
TEST_F(KvmPeerGuest, PeerInveptAndVmInstructionSet) {
  const std::vector<Bytes> instructions = {{0x66, 0x0F, 0x38, 0x80, 0x00},  // invept
                                           {0x0F, 0x01, 0xC1},              // vmcall
                                           {0x0F, 0x01, 0xC2},              // vmlaunch
                                           {0x0F, 0x01, 0xC3},              // vmresume
                                           {0x0F, 0x01, 0xC4},              // vmxoff
                                           {0x0F, 0xC7, 0x30},              // vmptrld
                                           {0xF3, 0x0F, 0xC7, 0x30},        // vmxon
                                           {0x0F, 0x01, 0xD8},              // vmrun
                                           {0x0F, 0x01, 0xD9},              // vmmcall
                                           {0x0F, 0x01, 0xDA},              // vmload
                                           {0x0F, 0x01, 0xDD}};             // clgi
  const VcpuState at_boot = state_;
  for (Bytes code : instructions) {
    code.push_back(0xF4);
    Write(kCode, code);
    ASSERT_OK(vcpu_->RestoreState(at_boot));
    std::promise<void> returned;
    std::thread watchdog([&, done = returned.get_future()] {
      if (done.wait_for(std::chrono::seconds(1)) != std::future_status::ready) vcpu_->Kick();
    });
    EXPECT_OK(vcpu_->Run());
    returned.set_value();
    watchdog.join();
  }
}

TEST_F(KvmPeerGuest, PeerSoftwareInterrupt) {
  RealMode();
  SetHandler(0x20, {0xB8, 0x78, 0x03, 0xCF});  // mov ax, 888; iret
  RUN({0xCD, 0x20, 0xBB, 0xDE, 0x03, 0xF4});   // int 0x20; mov bx, 990; hlt
  EXPECT_EQ(regs().rax & 0xFFFF, 888u);
  EXPECT_EQ(regs().rbx & 0xFFFF, 990u);
}

TEST_F(KvmPeerGuest, PeerRegisterAccess) {
  uint64_t n = 0x1111;
  for (uint64_t* reg : {&regs().rax, &regs().rbx, &regs().rcx, &regs().rdx, &regs().rsi,
                        &regs().rdi, &regs().rbp, &regs().rsp})
    *reg = n += 0x1111;
  GeneralRegisters expected = regs();
  expected.rip += 1;
  RUN({0xF4});
  EXPECT_EQ(regs(), expected);
}

TEST_F(KvmPeerGuest, PeerFlagsRegister) {
  regs().rflags = 0x2 | 0x1 | 0x40 | 0x800;  // CF, ZF, OF
  RUN({0x9C, 0x58, 0xF8, 0xF4});             // pushf; pop eax; clc; hlt
  EXPECT_EQ(regs().rax & 0x8D5, 0x841u);
  EXPECT_EQ(regs().rflags & 0x8D5, 0x840u);
}

TEST_F(KvmPeerGuest, PeerVmmSetSegs) {
  RealMode();
  SystemRegisters& s = state_.sregs;
  uint8_t value = 0x10;
  for (SegmentState* segment : {&s.ds, &s.es, &s.fs, &s.gs, &s.ss}) {
    segment->base = uint64_t{value} << 12;
    segment->selector = static_cast<uint16_t>(segment->base >> 4);
    Write(segment->base, {value});
    value += 0x10;
  }
  // mov al, [0]; mov bl, es:[0]; mov cl, fs:[0]; mov dl, gs:[0]; mov dh, ss:[0]; hlt
  RUN({0xA0, 0,    0,    0x26, 0x8A, 0x1E, 0,    0,    0x64, 0x8A, 0x0E, 0,
       0,    0x65, 0x8A, 0x16, 0,    0,    0x36, 0x8A, 0x36, 0,    0,    0xF4});
  EXPECT_EQ(regs().rax & 0xFF, 0x10u);
  EXPECT_EQ(regs().rbx & 0xFF, 0x20u);
  EXPECT_EQ(regs().rcx & 0xFF, 0x30u);
  EXPECT_EQ(regs().rdx & 0xFFFF, 0x5040u);
}

TEST_F(KvmPeerGuest, PeerMinimalInterruptInjection) {
  RealMode();
  SetHandler(32, {0xB8, 0x78, 0x03, 0xCF});  // mov ax, 888; iret
  regs().rflags |= 0x200;
  state_.events.interrupt.injected = 1;
  state_.events.interrupt.vector = 32;
  RUN({0xBB, 0xDE, 0x03, 0xF4});  // mov bx, 990; hlt
  EXPECT_EQ(regs().rax & 0xFFFF, 888u);
  EXPECT_EQ(regs().rbx & 0xFFFF, 990u);
  EXPECT_EQ(state_.events.interrupt.injected, 0);
}

// The last that was injected is the one that comes.
TEST_F(KvmPeerGuest, PeerMultipleInterruptInjection) {
  RealMode();
  SetHandler(33, {0xBB, 0x21, 0x00, 0xCF});  // mov bx, 33; iret
  Write(32 * 4, {0x00, 0x38, 0, 0});
  Write(0x3800, {0xB8, 0x20, 0x00, 0xCF});  // mov ax, 32; iret
  regs().rax = 1;
  regs().rflags |= 0x200;
  state_.events.interrupt.injected = 1;
  state_.events.interrupt.vector = 32;
  ASSERT_OK(vcpu_->RestoreState(state_));
  state_.events.interrupt.vector = 33;
  RUN({0xF4});
  EXPECT_EQ(regs().rax & 0xFFFF, 1u);
  EXPECT_EQ(regs().rbx & 0xFFFF, 33u);
}

TEST_F(KvmPeerGuest, PeerMinimalExceptionInjection) {
  RealMode();
  SetHandler(6, {0xB8, 0x78, 0x03, 0xCF});
  state_.events.exception = {.injected = 1, .pending = 0, .vector = 6};
  RUN({0xBB, 0xDE, 0x03, 0xF4});
  EXPECT_EQ(regs().rax & 0xFFFF, 888u);
  EXPECT_EQ(regs().rbx & 0xFFFF, 990u);
}

TEST_F(KvmPeerGuest, AnNmiThatIsPendingComes) {
  RealMode();
  SetHandler(2, {0xB8, 0x78, 0x03, 0xCF});
  state_.events.flags |= 1;  // KVM_VCPUEVENT_VALID_NMI_PENDING
  state_.events.nmi.pending = 1;
  RUN({0xBB, 0xDE, 0x03, 0xF4});
  EXPECT_EQ(regs().rax & 0xFFFF, 888u);
}

TEST_F(KvmPeerGuest, PeerEnterLongModeAsm) {
  Write(0x10000, {0x03, 0x00, 0x02});  // PML4, PDPT, one directory: 2 MiB, identity
  Write(0x20000, {0x03, 0x00, 0x03});
  Write(0x30000, {0x83});
  // mov eax, CR4.PAE; mov cr4, eax; mov eax, 0x10000; mov cr3, eax
  Bytes code = {0xB8, 0x20, 0, 0, 0, 0x0F, 0x22, 0xE0, 0xB8, 0, 0, 1, 0, 0x0F, 0x22, 0xD8};
  // mov ecx, EFER; mov eax, EFER.LME; xor edx, edx; wrmsr
  for (const uint8_t byte :
       {0xB9, 0x80, 0x00, 0x00, 0xC0, 0xB8, 0x00, 0x01, 0x00, 0x00, 0x31, 0xD2, 0x0F, 0x30})
    code.push_back(byte);
  // mov eax, cr0; or eax, CR0.PG; mov cr0, eax; hlt
  for (const uint8_t byte :
       {0x0F, 0x20, 0xC0, 0x0D, 0x00, 0x00, 0x00, 0x80, 0x0F, 0x22, 0xC0, 0xF4})
    code.push_back(byte);
  RUN(code);
  EXPECT_FALSE(shut_down_);
  EXPECT_EQ(state_.sregs.efer & 0x500, 0x500u) << "LME and LMA";
  EXPECT_NE(state_.sregs.cr0 & kPaging, 0u);
}

TEST_F(KvmPeerGuest, PeerPmodeSegmentLimit) {
  state_.sregs.ds.limit = 0xFFF;
  state_.sregs.ds.g = 0;
  const VcpuState limited = state_;
  RUN({0xA0, 0xFF, 0x0F, 0, 0, 0xF4});  // mov al, [0xfff]; hlt
  EXPECT_FALSE(shut_down_);
  state_ = limited;
  RUN({0xA0, 0x00, 0x10, 0, 0, 0xF4});  // mov al, [0x1000]; hlt
  EXPECT_TRUE(shut_down_);
}

// The VMM uses these registers too, between the guest's exits.
TEST_F(KvmPeerGuest, PeerMmxAndAvxStateAndXsave) {
  if (state_.xcrs.empty()) GTEST_SKIP() << "SKIPPED: no XSAVE here";
  state_.sregs.cr4 |= kOsFxsr | kOsXsave;
  state_.xcrs = {{0, 7}};
  state_.xsave[512] |= 7;  // XSTATE_BV: x87, SSE, AVX
  for (int i = 0; i < 8; ++i) state_.xsave[32 + i] = static_cast<uint8_t>(0x10 + i);    // mm0
  for (int i = 0; i < 16; ++i) state_.xsave[160 + i] = static_cast<uint8_t>(0x40 + i);  // xmm0
  for (int i = 0; i < 16; ++i) state_.xsave[576 + i] = static_cast<uint8_t>(0x80 + i);  // ymm0
  if (!vcpu_->RestoreState(state_).ok()) GTEST_SKIP() << "SKIPPED: no AVX here";
  const Bytes before = state_.xsave;
  RUN({0xE6, 2, 0xE6, 2, 0xE6, 2, 0xF4});
  EXPECT_EQ(Bytes(state_.xsave.begin() + 32, state_.xsave.begin() + 40),
            Bytes(before.begin() + 32, before.begin() + 40));
  EXPECT_EQ(Bytes(state_.xsave.begin() + 160, state_.xsave.begin() + 176),
            Bytes(before.begin() + 160, before.begin() + 176));
  EXPECT_EQ(Bytes(state_.xsave.begin() + 576, state_.xsave.begin() + 592),
            Bytes(before.begin() + 576, before.begin() + 592));
}

TEST_F(KvmPeerGuest, PeerFsgsbase) {
  Write(0x10000, {0x03, 0x00, 0x02});
  Write(0x20000, {0x03, 0x00, 0x03});
  Write(0x30000, {0x83});
  ASSERT_OK(vcpu_->SetUpForBoot({.rip = kCode, .rsp = 0x8000, .long_mode = true, .cr3 = 0x10000}));
  ASSERT_OK_AND_ASSIGN(state_, vcpu_->SaveState());
  state_.sregs.cr4 |= 1 << 16;
  regs().rax = 0x123456789000;
  regs().rbx = 0;
  if (!vcpu_->RestoreState(state_).ok()) GTEST_SKIP() << "SKIPPED: no FSGSBASE here";
  // wrfsbase rax; rdfsbase rbx; hlt
  RUN({0xF3, 0x48, 0x0F, 0xAE, 0xD0, 0xF3, 0x48, 0x0F, 0xAE, 0xC3, 0xF4});
  EXPECT_FALSE(shut_down_);
  EXPECT_EQ(regs().rbx, 0x123456789000u);
  EXPECT_EQ(state_.sregs.fs.base, 0x123456789000u);
}

}  // namespace
}  // namespace drover
