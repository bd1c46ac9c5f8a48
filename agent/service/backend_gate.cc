#include "agent/service/backend_gate.h"

#include "vmm/base/status.h"

namespace drover {

void BackendGate::Open(VmBackend* backend) {
  MutexLock lock(&mutex_);
  backend_ = backend;
}

void BackendGate::Close() {
  MutexLock lock(&mutex_);
  closed_ = true;
}

absl::StatusOr<VmBackend*> BackendGate::Pass() const {
  MutexLock lock(&mutex_);
  if (closed_)
    return WithReason(absl::UnavailableError("the agent is stopping; repeat the call to the next"),
                      "AGENT_STOPPING");
  if (backend_ == nullptr)
    return WithReason(
        absl::UnavailableError("the agent is starting: it is still adopting its VMs' workers"),
        "AGENT_STARTING");
  return backend_;
}

}  // namespace drover
