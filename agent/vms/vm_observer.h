#ifndef DROVER_AGENT_VMS_VM_OBSERVER_H_
#define DROVER_AGENT_VMS_VM_OBSERVER_H_

#include <chrono>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "agent/vms/vm_backend.h"

namespace drover {

// What became of one VM that an earlier agent left running.
enum class AdoptionResult {
  kAdopted,      // its worker answered and goes on
  kGone,         // its worker had ended meanwhile
  kInterrupted,  // its start or its delete was under way; finished or undone
  kUnknown,      // its worker does not answer (yet); tried again in the background
};

// Told of what happens to VMs, for metrics. Called on any thread, with no lock held; must not block
// or call back into the VmManager.
class VmObserver {
 public:
  virtual ~VmObserver() = default;
  // A StartVm ended: `duration` from its turn to the running guest, or to the error.
  virtual void OnStart(std::chrono::nanoseconds duration, const absl::Status& status) {}
  // A worker that ran has ended: `state` is kStopped or kFailed, `reason` is the VM's state_reason.
  virtual void OnExit(VmState state, absl::string_view reason) {}
  // Once for each VM that had a worker when the agent started, and once more for each kUnknown that
  // was resolved later.
  virtual void OnAdopted(AdoptionResult result) {}
  // Adoption at start is over.
  virtual void OnAdoptionFinished(std::chrono::nanoseconds duration) {}
};

}  // namespace drover

#endif  // DROVER_AGENT_VMS_VM_OBSERVER_H_
