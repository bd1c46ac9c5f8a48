#ifndef DROVER_AGENT_WORKER_MACHINE_REPORT_H_
#define DROVER_AGENT_WORKER_MACHINE_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/core/vm_plan.h"

namespace drover {

// The state of the machine as its worker tells it; the numbers are worker.v1.MachineState's.
enum class ReportedState {
  kUnspecified = 0,
  kCreated = 1,
  kStarting = 2,
  kRunning = 3,
  kPaused = 4,
  kStopping = 5,
  kStopped = 6,
  kFailed = 7,
};

// The machine has ended, and its worker is about to.
constexpr bool IsTerminal(ReportedState state) {
  return state == ReportedState::kStopped || state == ReportedState::kFailed;
}

// What a worker says of its machine. Hostile as it came, cleaned by the decoder: the reason is a
// short UPPER_SNAKE_CASE word or empty, the message short and printable.
struct MachineReport {
  ReportedState state = ReportedState::kUnspecified;
  std::string reason;
  std::string message;
  uint32_t boot_count = 0;  // of this worker
  VmPlan plan;              // empty until it is configured
  bool operator==(const MachineReport&) const = default;
};

// Who answered on the control socket.
struct WorkerGreeting {
  uint32_t protocol = 0;
  std::string version;
  std::string instance_id;
  MachineReport machine;
};

// What a machine is built from.
struct MachineConfig {
  std::string vm_id;
  uint32_t vcpus = 1;
  uint64_t memory_bytes = 0;
  std::string command_line;
  VmFeatures features;
  std::vector<std::string> withheld;  // capabilities
};

}  // namespace drover

#endif  // DROVER_AGENT_WORKER_MACHINE_REPORT_H_
