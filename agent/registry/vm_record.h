#ifndef DROVER_AGENT_REGISTRY_VM_RECORD_H_
#define DROVER_AGENT_REGISTRY_VM_RECORD_H_

#include <cstdint>
#include <map>
#include <string>

#include "agent/vms/vm_backend.h"

namespace drover {

// One VM as the registry keeps it: everything needed to find it again after a crash
// (registry.v1.VmRecord).
struct VmRecord {
  std::string id;
  std::string uid;
  VmSpec spec;
  VmPlan plan;  // of the create, then of the worker that ran last
  std::map<std::string, std::string> labels;
  VmState state = VmState::kCreated;
  std::string state_reason;
  std::string state_message;
  int64_t create_time = 0;        // nanoseconds since the Unix epoch
  int64_t state_change_time = 0;  // nanoseconds since the Unix epoch
  int64_t generation = 1;         // grows with every change but boot_count's; the etag
  int32_t boot_count = 0;
  int32_t boots_before = 0;  // boot_count when the worker of instance_id was launched
  std::string instance_id;   // of the worker launched or about to be; empty when none
  std::string request_id;    // of the create; may be empty
  bool deleting = false;
  int64_t stop_deadline = 0;  // end of a stop's grace, nanoseconds since the epoch; 0 without one

  bool operator==(const VmRecord&) const = default;
};

}  // namespace drover

#endif  // DROVER_AGENT_REGISTRY_VM_RECORD_H_
