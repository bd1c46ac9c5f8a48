#ifndef DROVER_VMM_CORE_VCPU_STATE_CHECK_H_
#define DROVER_VMM_CORE_VCPU_STATE_CHECK_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "vmm/core/vcpu_state.h"

namespace drover {

// The vendor's twelve letters in CPUID leaf 0; "" without that leaf.
std::string CpuidVendor(const std::vector<CpuidEntry>& cpuid);
// How its nested state is laid out: SVM for AMD and Hygon.
NestedFormat NestedFormatOf(const std::vector<CpuidEntry>& cpuid);

// What a vCPU can take. The spans' owner outlives it.
struct VcpuStateLimits {
  uint32_t id = 0;
  std::string vendor;  // of the host's CPUID
  uint32_t tsc_khz = 0;
  bool tsc_control = false;
  bool tsc_offset = false;
  uint32_t xsave_bytes = 0;
  bool xcrs = false;
  bool lapic = false;                                  // the VM has in-kernel local APICs
  uint32_t nested_state_bytes = 0;                     // 0: none
  std::span<const uint32_t> msrs;                      // ascending
  std::optional<std::vector<CpuidEntry>> fixed_cpuid;  // of a vCPU that has run: it cannot change
};

// INVALID_ARGUMENT (EINVAL) that names the part, unless the vCPU can take the state as far as it
// can be told beforehand; UNIMPLEMENTED for a TSC frequency that the host cannot give. The one rule
// for every backend; nothing is changed by it.
absl::Status CheckVcpuState(const VcpuState& state, const VcpuStateLimits& limits);

}  // namespace drover

#endif  // DROVER_VMM_CORE_VCPU_STATE_CHECK_H_
