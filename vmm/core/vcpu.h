#ifndef DROVER_VMM_CORE_VCPU_H_
#define DROVER_VMM_CORE_VCPU_H_

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/core/vcpu_state.h"

namespace drover {

// Why Run came back. The variants' spans point into the vCPU and are valid until its next Run; a
// read's answer is written into `data` before that.
struct PortExit {
  uint16_t port;
  bool is_write;
  uint8_t size;             // 1, 2 or 4 bytes an access
  uint32_t count;           // repeats (string instructions)
  std::span<uint8_t> data;  // size * count bytes
};
struct MmioExit {
  uint64_t address;
  bool is_write;
  std::span<uint8_t> data;  // 1 to 8 bytes
};
struct HaltExit {};         // HLT, only without an in-kernel irqchip
struct InterruptedExit {};  // kicked, or a signal
struct ShutdownExit {};     // triple fault
struct SystemEventExit {    // KVM_EXIT_SYSTEM_EVENT
  enum class Kind { kShutdown, kReset, kCrash, kOther } kind;
};
struct FailEntryExit {
  uint64_t hardware_reason;
};
struct InternalErrorExit {
  uint32_t suberror;                 // KVM_INTERNAL_ERROR_*
  bool emulation;                    // KVM could not emulate an instruction
  std::vector<uint8_t> instruction;  // its bytes where KVM gives them, at most 15
};
struct DirtyRingFullExit {};
struct MsrExit {  // KVM_EXIT_X86_RDMSR / WRMSR under an MSR filter
  uint32_t index;
  bool is_write;
  uint64_t* value;
  uint8_t* error;  // set to 1 to inject #GP
};
struct HypercallExit {
  uint64_t number;
};
struct UnknownExit {
  uint32_t reason;  // KVM_EXIT_*
};
using VcpuExit = std::variant<PortExit, MmioExit, HaltExit, InterruptedExit, ShutdownExit,
                              SystemEventExit, FailEntryExit, InternalErrorExit, DirtyRingFullExit,
                              MsrExit, HypercallExit, UnknownExit>;

// How a boot protocol wants a vCPU to begin: flat segments, and these values; every other register
// is 0.
struct BootRegisters {
  uint64_t rip = 0;
  uint64_t rsp = 0;
  uint64_t rbx = 0;        // PVH: the start info's address
  uint64_t rsi = 0;        // Linux: the boot parameters' address
  bool long_mode = false;  // 64-bit with paging on cr3; otherwise 32-bit protected mode, no paging
  uint64_t cr3 = 0;
  uint64_t gdt_base = 0;
  uint16_t gdt_limit = 0;
};

// One virtual CPU. Run, and everything but Kick, belongs to one thread at a time (the vCPU's own
// while it runs, any while it is stopped). Kick may be called from any thread at any time.
class Vcpu {
 public:
  virtual ~Vcpu() = default;
  virtual uint32_t id() const = 0;

  // Runs the guest until something needs the VMM. A kick that came before returns InterruptedExit
  // at once; no kick is lost, and one Kick makes at most one Run return. An error is one of the
  // host (KVM_RUN failed).
  virtual absl::StatusOr<VcpuExit> Run() = 0;
  // Makes the current or the next Run return InterruptedExit. Thread-safe.
  virtual void Kick() = 0;

  // Completes the I/O of the last exit without running guest code, so that the state may be read.
  // UNAVAILABLE when the instruction is not over (an access in several pieces): the next Run
  // returns its next exit; handle that and call again.
  virtual absl::Status CompleteExit() = 0;

  // CPUID, MSRs and the mode at reset of a Drover machine: the boot processor (id 0) runs from
  // `boot`; others wait for INIT/SIPI. Call once before the first Run, or again to reset the vCPU.
  // After an error of the host the vCPU is a mixture (see RestoreState).
  virtual absl::Status SetUpForBoot(const BootRegisters& boot) = 0;

  // All that the vCPU is. Completes the last exit first, as CompleteExit does and with its
  // UNAVAILABLE; FAILED_PRECONDITION before SetUpForBoot or RestoreState. No other vCPU of the VM
  // may run: events between them would be lost.
  virtual absl::StatusOr<VcpuState> SaveState() = 0;
  // Makes the vCPU what `state` says: of a vCPU of the same id, of this VM or another, on a host of
  // the same vendor. Instead of SetUpForBoot, or after it; once the vCPU has run, CPUID must be
  // what it is. What CheckVcpuState refuses is INVALID_ARGUMENT or UNIMPLEMENTED, and nothing has
  // changed. An MSR that does not take its value is INVALID_ARGUMENT too, and names both; a TSC
  // offset that does not take is UNIMPLEMENTED. After these or an error of the host the vCPU is a
  // mixture: Run and SaveState are FAILED_PRECONDITION until a RestoreState or a SetUpForBoot
  // succeeds.
  //
  // A whole machine: memory, CreateIrqchip, SetPvClock, the vCPUs, then RestoreIrqchip, which may
  // raise interrupts in local APICs.
  virtual absl::Status RestoreState(const VcpuState& state) = 0;

  // One MSR as the host sees it, without the guest's permissions. NOT_FOUND (ENOENT) for one that
  // cannot be read; INVALID_ARGUMENT (EINVAL) that names both for one that does not take the value.
  virtual absl::StatusOr<uint64_t> GetMsr(uint32_t index) = 0;
  virtual absl::Status SetMsr(uint32_t index, uint64_t value) = 0;

  // Tells the guest's kvmclock that it was stopped (KVM_KVMCLOCK_CTRL); OK where the guest has
  // none.
  virtual absl::Status NotifyPaused() = 0;

  // Registers as text for the log: general, segment and control registers, one line each group.
  virtual std::string DumpRegisters() = 0;
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_VCPU_H_
