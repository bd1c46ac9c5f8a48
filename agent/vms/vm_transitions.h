#ifndef DROVER_AGENT_VMS_VM_TRANSITIONS_H_
#define DROVER_AGENT_VMS_VM_TRANSITIONS_H_

#include <string>

#include "absl/status/status.h"
#include "agent/vms/vm_backend.h"

namespace drover {

// What a client may ask of a VM.
enum class VmOperation {
  kStart,
  kStop,
  kPause,
  kResume,
  kReboot,
  kDelete,
  kDeleteForce,
  kAttachConsole,
};
inline constexpr int kVmOperations = 8;

// As in the API: "running", "start".
const char* VmStateName(VmState state);
const char* VmOperationName(VmOperation operation);

bool IsAllowed(VmState state, VmOperation operation);

// FAILED_PRECONDITION (WRONG_STATE) that names the VM, its state and what is allowed in it; OK
// where `operation` is.
absl::Status CheckTransition(const std::string& id, VmState state, VmOperation operation);

}  // namespace drover

#endif  // DROVER_AGENT_VMS_VM_TRANSITIONS_H_
