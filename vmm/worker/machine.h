#ifndef DROVER_VMM_WORKER_MACHINE_H_
#define DROVER_VMM_WORKER_MACHINE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "vmm/worker/machine_builder.h"
#include "vmm/worker/machine_state.h"
#include "vmm/worker/vcpu_threads.h"

namespace drover {

// One virtual machine from its configuration to its end. Every wish (pause, reset, stop, and what
// the guest does) parks the vCPUs first; once all are parked, the gravest wish decides what comes
// next: the end, a reboot in place, the pause, or running on. Loop-bound.
class Machine {
 public:
  // Answers a call, on the loop, at once or later.
  using Done = std::function<void(absl::Status)>;

  struct Options {
    MachineEnvironment environment;
    VcpuThreadSource make_vcpu_thread;  // as in VcpuThreads
    // After each change of status, a reboot included. Must not destroy the machine.
    std::function<void(const MachineStatus&)> on_change;
  };

  explicit Machine(Options options) : options_(std::move(options)) {}
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  const MachineStatus& status() const { return state_.status(); }

  // Calls in the wrong state are FAILED_PRECONDITION, reason WRONG_STATE, and change nothing.

  // Builds the machine; once. On failure it is as if never called.
  absl::Status Configure(const MachineSpec& spec);
  // created -> starting -> running.
  absl::Status Start();
  // running -> paused, once all vCPUs are parked.
  void Pause(Done done);
  // paused -> running.
  absl::Status Resume();
  // running or paused -> running, rebooted.
  void Reset(Done done);
  // running: presses the ACPI power button.
  absl::Status PowerButton();
  // -> stopping -> stopped.
  void Stop(Done done);

 private:
  void OnStop(MachineStop stop);
  void Settle();
  void End();
  void Reboot();
  void BecomePaused();
  void RunOn();
  void ParkAll();
  absl::Status Change(MachineState to, absl::string_view reason = "",
                      absl::string_view message = "", bool boots = false);
  void Tell(bool log = true);
  absl::Status WrongState(absl::string_view call) const;
  static void AnswerAll(std::vector<Done>* waiters, const absl::Status& status);

  const Options options_;
  MachineStateCell state_;
  std::optional<MachineParts> parts_;
  std::unique_ptr<VcpuThreads> threads_;  // goes before the parts

  bool parking_ = false;
  std::optional<MachineStop> ending_;
  std::optional<std::string> reset_reason_;
  std::vector<Done> pausers_;
  std::vector<Done> resetters_;
  std::vector<Done> stoppers_;
};

}  // namespace drover

#endif  // DROVER_VMM_WORKER_MACHINE_H_
