#include "vmm/worker/machine_state.h"

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr absl::string_view kNames[kMachineStates] = {"created",  "starting", "running", "paused",
                                                      "stopping", "stopped",  "failed"};

// Rows: from; columns: to; in the order of MachineState.
constexpr bool kTransitions[kMachineStates][kMachineStates] = {
    // created, starting, running, paused, stopping, stopped, failed
    {false, true, false, false, true, false, true},     // created
    {false, false, true, false, true, false, true},     // starting
    {false, false, true, true, true, false, true},      // running
    {false, false, true, false, true, false, true},     // paused
    {false, false, false, false, false, true, true},    // stopping
    {false, false, false, false, false, false, false},  // stopped
    {false, false, false, false, false, false, false},  // failed
};

}  // namespace

absl::string_view MachineStateName(MachineState state) { return kNames[static_cast<int>(state)]; }

bool IsTerminal(MachineState state) {
  return state == MachineState::kStopped || state == MachineState::kFailed;
}

bool MayChange(MachineState from, MachineState to) {
  return kTransitions[static_cast<int>(from)][static_cast<int>(to)];
}

absl::Status MachineStateCell::Change(MachineState to, absl::string_view reason,
                                      absl::string_view message, bool boots) {
  const MachineState from = status_.state;
  if (!MayChange(from, to))
    return WithReason(
        absl::FailedPreconditionError(absl::StrCat("a machine that is ", MachineStateName(from),
                                                   " cannot become ", MachineStateName(to))),
        "WRONG_STATE");
  if (to == MachineState::kRunning && (boots || from != MachineState::kPaused))
    ++status_.boot_count;
  status_.state = to;
  status_.reason = std::string(reason);
  status_.message = std::string(message);
  return absl::OkStatus();
}

}  // namespace drover
