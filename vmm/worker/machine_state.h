#ifndef DROVER_VMM_WORKER_MACHINE_STATE_H_
#define DROVER_VMM_WORKER_MACHINE_STATE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "vmm/core/vm_plan.h"

namespace drover {

enum class MachineState { kCreated, kStarting, kRunning, kPaused, kStopping, kStopped, kFailed };
inline constexpr int kMachineStates = 7;

absl::string_view MachineStateName(MachineState state);
bool IsTerminal(MachineState state);

// Whether the one table of transitions has this pair. running -> running is a reboot.
bool MayChange(MachineState from, MachineState to);

// The machine as its owner sees it, in answers, events and last words.
struct MachineStatus {
  MachineState state = MachineState::kCreated;
  std::string reason;       // UPPER_SNAKE_CASE: why the state is what it is; may be empty
  std::string message;      // for a person
  uint32_t boot_count = 0;  // 1 after the first start
  VmPlan plan;              // once it is built
  bool operator==(const MachineStatus&) const = default;
};

// Holds the machine's status and lets it change along the table only, so that a terminal state is
// written once. Thread-compatible.
class MachineStateCell {
 public:
  const MachineStatus& status() const { return status_; }
  MachineState state() const { return status_.state; }
  void SetPlan(VmPlan plan) { status_.plan = std::move(plan); }

  // FAILED_PRECONDITION, naming both states, for a pair that is not in the table; nothing changes
  // then. Each change to running from starting, or from running, or with `boots`, counts a boot.
  absl::Status Change(MachineState to, absl::string_view reason = "",
                      absl::string_view message = "", bool boots = false);

 private:
  MachineStatus status_;
};

}  // namespace drover

#endif  // DROVER_VMM_WORKER_MACHINE_STATE_H_
