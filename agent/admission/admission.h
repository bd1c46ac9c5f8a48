#ifndef DROVER_AGENT_ADMISSION_ADMISSION_H_
#define DROVER_AGENT_ADMISSION_ADMISSION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/errors/field_violations.h"
#include "agent/vms/vm_backend.h"
#include "vmm/core/capabilities.h"
#include "vmm/core/vm_plan.h"

namespace drover {

inline constexpr int32_t kMaxVcpus = 254;
inline constexpr size_t kMaxCommandLineBytes = 2047;

// What this host can give to VMs.
struct HostLimits {
  // Less what the agent withholds; nothing where the hypervisor cannot be used: VMs are then held
  // against it when they start.
  std::optional<BackendCapabilities> capabilities;
  int64_t memory_mib = 0;    // of the host
  int64_t reserved_mib = 0;  // of it, kept from VMs
  int32_t max_vms = 1000;

  int64_t usable_mib() const { return memory_mib > reserved_mib ? memory_mib - reserved_mib : 0; }
};

// What the VMs that are not deleted have been promised.
struct HostAllocation {
  int64_t memory_mib = 0;
  int32_t vms = 0;
};

// 1 to 63 characters of a-z, 0-9 and '-', beginning with a letter, not ending with '-'.
bool IsVmId(absl::string_view id);

// Everything that is wrong with the parameters, whatever else the host holds; empty when nothing
// is. Paths are checked for their form only.
std::vector<FieldViolation> ValidateCreate(const CreateVmParams& params, const HostLimits& host);

// ValidateCreate, and then ResolveVm: what the VM will be. INVALID_ARGUMENT names every bad field
// (FieldViolations); its reason is INVALID_FIELDS, or where only capabilities are missing that of
// the first refusal, with CapabilityOf.
absl::StatusOr<VmPlan> ResolveCreate(const CreateVmParams& params, const HostLimits& host);

// Whether the VM fits beside what is promised already. vCPUs may be overcommitted, memory may not.
// RESOURCE_EXHAUSTED: HOST_MEMORY_EXHAUSTED or HOST_VMS_EXHAUSTED, with a retry delay, since a VM
// that ValidateCreate accepts fits once others are deleted.
absl::Status CheckCapacity(const VmSpec& spec, const HostAllocation& promised,
                           const HostLimits& host);

}  // namespace drover

#endif  // DROVER_AGENT_ADMISSION_ADMISSION_H_
