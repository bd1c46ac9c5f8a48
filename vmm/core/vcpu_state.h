#ifndef DROVER_VMM_CORE_VCPU_STATE_H_
#define DROVER_VMM_CORE_VCPU_STATE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "vmm/core/nested_state.h"

namespace drover {

// Everything that an x86-64 vCPU is, as plain values: what Vcpu::SaveState gives and RestoreState
// takes. Names and meanings are the architecture's (Intel SDM, AMD APM) and those of KVM's api.rst.
// Equal states are equal in every bit that a guest can see, but for the TSC, which runs on.

struct CpuidEntry {
  static constexpr uint32_t kSubleafMatters = 1;  // KVM_CPUID_FLAG_SIGNIFCANT_INDEX

  uint32_t leaf = 0;
  uint32_t subleaf = 0;
  uint32_t flags = 0;
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  bool operator==(const CpuidEntry&) const = default;
};

struct TscState {
  uint32_t khz = 0;
  // Guest TSC minus host TSC (KVM_VCPU_TSC_OFFSET): with it RestoreState lets the guest's TSC run
  // on as if it had never stopped, on this host and boot; AdjustedTscOffset makes it so elsewhere.
  // Without it the guest's TSC goes on from `value`. Never absent in a state saved where the host
  // has such offsets.
  std::optional<uint64_t> offset;
  uint64_t value = 0;  // IA32_TSC when it was saved
  bool operator==(const TscState&) const = default;
};

// struct kvm_regs.
struct GeneralRegisters {
  uint64_t rax = 0, rbx = 0, rcx = 0, rdx = 0, rsi = 0, rdi = 0, rsp = 0, rbp = 0;
  uint64_t r8 = 0, r9 = 0, r10 = 0, r11 = 0, r12 = 0, r13 = 0, r14 = 0, r15 = 0;
  uint64_t rip = 0, rflags = 2;
  bool operator==(const GeneralRegisters&) const = default;
};

struct SegmentState {
  uint64_t base = 0;
  uint32_t limit = 0;
  uint16_t selector = 0;
  uint8_t type = 0;                                  // 4 bits
  uint8_t dpl = 0;                                   // 2 bits
  uint8_t present = 0, db = 0, s = 0, l = 0, g = 0;  // 1 bit
  uint8_t avl = 0, unusable = 0;                     // 1 bit
  bool operator==(const SegmentState&) const = default;
};

struct DescriptorTable {
  uint64_t base = 0;
  uint16_t limit = 0;
  bool operator==(const DescriptorTable&) const = default;
};

// struct kvm_sregs2; where the host only has kvm_sregs, without `pdptrs`.
struct SystemRegisters {
  SegmentState cs, ds, es, fs, gs, ss, tr, ldt;
  DescriptorTable gdt, idt;
  uint64_t cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, cr8 = 0;
  uint64_t efer = 0;
  uint64_t apic_base = 0;
  std::optional<std::array<uint64_t, 4>> pdptrs;  // with PAE paging, as the processor has them
  bool operator==(const SystemRegisters&) const = default;
};

struct XcrValue {
  uint32_t index = 0;
  uint64_t value = 0;
  bool operator==(const XcrValue&) const = default;
};

struct DebugRegisters {
  std::array<uint64_t, 4> db = {};
  uint64_t dr6 = 0xFFFF0FF0;
  uint64_t dr7 = 0x400;
  bool operator==(const DebugRegisters&) const = default;
};

struct MsrValue {
  uint32_t index = 0;
  uint64_t value = 0;
  bool operator==(const MsrValue&) const = default;
};

// struct kvm_vcpu_events.
struct VcpuEvents {
  struct Exception {
    uint8_t injected = 0, pending = 0, vector = 0, has_error_code = 0;
    uint32_t error_code = 0;
    uint8_t has_payload = 0;
    uint64_t payload = 0;
    bool operator==(const Exception&) const = default;
  };
  struct Interrupt {
    uint8_t injected = 0, vector = 0, soft = 0, shadow = 0;
    bool operator==(const Interrupt&) const = default;
  };
  struct Nmi {
    uint8_t injected = 0, pending = 0, masked = 0;
    bool operator==(const Nmi&) const = default;
  };
  struct Smi {
    uint8_t smm = 0, pending = 0, inside_nmi = 0, latched_init = 0;
    bool operator==(const Smi&) const = default;
  };

  uint32_t flags = 0;  // KVM_VCPUEVENT_VALID_*: which of the parts below hold
  Exception exception;
  Interrupt interrupt;
  Nmi nmi;
  Smi smi;
  uint32_t sipi_vector = 0;
  uint8_t triple_fault_pending = 0;
  bool operator==(const VcpuEvents&) const = default;
};

// KVM_MP_STATE_*.
enum class MpState : uint32_t {
  kRunnable = 0,
  kUninitialized = 1,  // waits for INIT
  kInitReceived = 2,   // waits for SIPI
  kHalted = 3,
  kSipiReceived = 4,
};

// The registers of a local APIC: register n's 32 bits at byte n * 16 (SDM vol. 3A §11.4.1).
using LapicRegisters = std::array<uint8_t, 1024>;
uint32_t LapicRegister(const LapicRegisters& lapic, uint32_t offset);
void SetLapicRegister(LapicRegisters* lapic, uint32_t offset, uint32_t value);

struct VcpuState {
  uint32_t id = 0;
  std::vector<CpuidEntry> cpuid;
  TscState tsc;
  SystemRegisters sregs;
  std::vector<XcrValue> xcrs;  // ascending; empty where the host has no XSAVE
  // The XSAVE area in the standard format (SDM vol. 1 §13.4), FPU and SSE state included; its size
  // is the host's BackendCapabilities::xsave_bytes.
  std::vector<uint8_t> xsave;
  DebugRegisters debug;
  std::optional<LapicRegisters> lapic;  // with an in-kernel local APIC
  // By index, ascending: those that KVM lists and that hold something of the guest's. Not IA32_TSC
  // (`tsc`), EFER and IA32_APIC_BASE (`sregs`).
  std::vector<MsrValue> msrs;
  GeneralRegisters regs;
  std::optional<NestedStateBuffer> nested;  // where the host has nested virtualization
  VcpuEvents events;
  MpState mp_state = MpState::kRunnable;
  bool operator==(const VcpuState&) const = default;
};

// The value of an MSR in the state; nullptr where it is not there.
const MsrValue* FindMsr(const VcpuState& state, uint32_t index);
MsrValue* FindMsr(VcpuState* state, uint32_t index);

// Names of the parts of the state that differ, with the first difference of each: "" for equal
// states. For logs and tests.
std::string Difference(const VcpuState& a, const VcpuState& b);
std::ostream& operator<<(std::ostream& out, const VcpuState& state);

// Two moments of a VM's clocks (Vm::GetPvClock with host_tsc), for AdjustedTscOffset.
struct ClockMoment {
  uint64_t nanos = 0;     // kvmclock's time
  uint64_t host_tsc = 0;  // at the same moment
};
// `offset` at `source` as it must be at `destination`, so that the guest's TSC goes on at `khz` in
// step with its kvmclock (api.rst KVM_VCPU_TSC_OFFSET, the algorithm of migration). Wraps.
uint64_t AdjustedTscOffset(uint64_t offset, uint32_t khz, const ClockMoment& source,
                           const ClockMoment& destination);

}  // namespace drover

#endif  // DROVER_VMM_CORE_VCPU_STATE_H_
