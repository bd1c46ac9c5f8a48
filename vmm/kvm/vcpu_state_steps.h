#ifndef DROVER_VMM_KVM_VCPU_STATE_STEPS_H_
#define DROVER_VMM_KVM_VCPU_STATE_STEPS_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/core/vcpu_state.h"
#include "vmm/core/vcpu_state_check.h"

namespace drover {

// What the steps need to know of the vCPU and its host.
struct VcpuStateContext {
  int vm_fd = -1;
  int vcpu_fd = -1;
  uint32_t id = 0;
  bool lapic = false;               // in the kernel
  bool tsc_control = false;         // KVM_CAP_TSC_CONTROL
  uint32_t nested_state_bytes = 0;  // KVM_CAP_NESTED_STATE
  std::span<const uint32_t> msrs;   // ListSaveableMsrs
};

// One part of a vCPU's state. Set from the first step to the last, and got from the last to the
// first: what getting one part changes in another, setting the other would undo.
struct VcpuStateStep {
  const char* name;
  absl::Status (*get)(const VcpuStateContext&, VcpuState*);
  absl::Status (*set)(const VcpuStateContext&, const VcpuState&);
  const char* why_here;
};
std::span<const VcpuStateStep> VcpuStateSteps();

// What the vCPU can take; `vendor` is the host's.
VcpuStateLimits LimitsOf(const VcpuStateContext& vcpu, std::string vendor);
// CPUID as it was last set; empty before that.
absl::StatusOr<std::vector<CpuidEntry>> GetVcpuCpuid(int vcpu_fd);

absl::StatusOr<VcpuState> SaveVcpuState(const VcpuStateContext& vcpu);
// Of a checked state. An error names its step.
absl::Status RestoreVcpuState(const VcpuStateContext& vcpu, const VcpuState& state);

}  // namespace drover

#endif  // DROVER_VMM_KVM_VCPU_STATE_STEPS_H_
