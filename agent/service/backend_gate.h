#ifndef DROVER_AGENT_SERVICE_BACKEND_GATE_H_
#define DROVER_AGENT_SERVICE_BACKEND_GATE_H_

#include "absl/status/statusor.h"
#include "agent/vms/vm_backend.h"
#include "vmm/base/mutex.h"

namespace drover {

// Whether calls may reach the VMs yet: closed until the workers of the agent before are adopted,
// closed for good when the agent ends. Thread-safe.
class BackendGate {
 public:
  // Opens the gate to `backend`, which must outlive every call that passes.
  void Open(VmBackend* backend);
  void Close();

  // UNAVAILABLE with reason AGENT_STARTING before Open, AGENT_STOPPING after Close.
  absl::StatusOr<VmBackend*> Pass() const;

 private:
  mutable Mutex mutex_;
  VmBackend* backend_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_BACKEND_GATE_H_
