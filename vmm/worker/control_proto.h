#ifndef DROVER_VMM_WORKER_CONTROL_PROTO_H_
#define DROVER_VMM_WORKER_CONTROL_PROTO_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "vmm/core/vm_plan.h"
#include "vmm/worker/machine_state.h"

namespace drover {

// The control protocol (proto/worker/v1/worker.proto) as the worker's code sees it; only
// control_proto.cc touches messages.
struct HelloCall {
  uint32_t min_protocol = 0;
  uint32_t max_protocol = 0;
};
struct ConfigureCall {
  std::string vm_id;
  uint32_t vcpus = 0;
  uint64_t memory_bytes = 0;
  std::string command_line;
  VmFeatures features;
  std::vector<std::string> withheld;  // capabilities
};
struct StartCall {};
struct PauseCall {};
struct ResumeCall {};
struct ResetCall {};
struct PowerButtonCall {};
struct StopCall {};
struct AttachConsoleCall {};
// A call that this version does not know.
struct UnknownCall {};
using ControlCall =
    std::variant<UnknownCall, HelloCall, ConfigureCall, StartCall, PauseCall, ResumeCall, ResetCall,
                 PowerButtonCall, StopCall, AttachConsoleCall>;

struct ControlRequest {
  uint64_t sequence = 0;  // never 0
  ControlCall call;
};

struct HelloAnswer {
  uint32_t protocol = 0;
  std::string version;
  std::string instance_id;
  MachineStatus machine;
};
struct ConsoleAnswer {
  uint64_t lost_bytes = 0;
};
using ControlBody = std::variant<std::monostate, HelloAnswer, MachineStatus, ConsoleAnswer>;

// INVALID_ARGUMENT for bytes that are no request, or one with sequence 0.
absl::StatusOr<ControlRequest> ParseControlRequest(absl::string_view bytes);

// The bytes of a response; an event has sequence 0.
std::string SerializeControlResponse(uint64_t sequence, const absl::Status& status,
                                     const ControlBody& body);

// The bytes of a LastWords message.
std::string SerializeLastWords(absl::string_view instance_id, const MachineStatus& machine);

// What WorkerLaunch says besides its descriptors.
struct LaunchHeader {
  std::string instance_id;
  bool has_initrd = false;
};
absl::StatusOr<LaunchHeader> ParseLaunchHeader(absl::string_view bytes);

}  // namespace drover

#endif  // DROVER_VMM_WORKER_CONTROL_PROTO_H_
