#ifndef DROVER_VMM_CORE_HYPERVISOR_H_
#define DROVER_VMM_CORE_HYPERVISOR_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "vmm/core/capabilities.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/vm.h"

namespace drover {

// Makes virtual machines. Thread-safe, but for Withhold.
class Hypervisor {
 public:
  virtual ~Hypervisor() = default;
  // Probed when the hypervisor was opened, less what is withheld.
  virtual const BackendCapabilities& capabilities() const = 0;
  // Does without these from now on, as on a host that has not got them: what needs one is
  // UNIMPLEMENTED. Before the first CreateVm and before other threads use the hypervisor.
  // INVALID_ARGUMENT for an unknown name, and nothing changes.
  virtual absl::Status Withhold(const std::vector<std::string>& names) = 0;
  // A VM with `memory` in slots 0, 1, ... and nothing else yet.
  virtual absl::StatusOr<std::unique_ptr<Vm>> CreateVm(std::unique_ptr<GuestMemory> memory) = 0;
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_HYPERVISOR_H_
