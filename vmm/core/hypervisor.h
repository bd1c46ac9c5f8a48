#ifndef DROVER_VMM_CORE_HYPERVISOR_H_
#define DROVER_VMM_CORE_HYPERVISOR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "vmm/core/capabilities.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/vm.h"

namespace drover {

// Makes virtual machines. Thread-safe.
class Hypervisor {
 public:
  virtual ~Hypervisor() = default;
  // Probed when the hypervisor was opened.
  virtual const BackendCapabilities& capabilities() const = 0;
  // A VM with `memory` in slots 0, 1, ... and nothing else yet.
  virtual absl::StatusOr<std::unique_ptr<Vm>> CreateVm(std::unique_ptr<GuestMemory> memory) = 0;
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_HYPERVISOR_H_
