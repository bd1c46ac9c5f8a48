#include "vmm/worker/machine.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

// Of a guest that resets without end, ever fewer boots: it must not fill the log.
bool IsWorthLogging(uint32_t boot_count) {
  return boot_count <= 16 || (boot_count & (boot_count - 1)) == 0;
}

void LogState(const MachineStatus& status) {
  Log(status.state == MachineState::kFailed ? LogLevel::kError : LogLevel::kInfo, "machine",
      {{"state", MachineStateName(status.state)},
       {"reason", status.reason},
       {"detail", status.message},
       {"boots", status.boot_count}});
}

}  // namespace

Machine::~Machine() = default;

absl::Status Machine::WrongState(absl::string_view call) const {
  return WithReason(absl::FailedPreconditionError(
                        absl::StrCat(call, ": the machine is ", MachineStateName(state_.state()))),
                    "WRONG_STATE");
}

absl::Status Machine::Change(MachineState to, absl::string_view reason, absl::string_view message,
                             bool boots) {
  RETURN_IF_ERROR(state_.Change(to, reason, message, boots));
  Tell(/*log=*/!boots || IsWorthLogging(state_.status().boot_count));
  return absl::OkStatus();
}

void Machine::Tell(bool log) {
  if (log) LogState(state_.status());
  if (options_.on_change) options_.on_change(state_.status());
}

void Machine::AnswerAll(std::vector<Done>* waiters, const absl::Status& status) {
  for (Done& done : std::exchange(*waiters, {})) done(status);
}

absl::Status Machine::Configure(const MachineSpec& spec) {
  if (state_.state() != MachineState::kCreated) return WrongState("Configure");
  if (parts_.has_value())
    return WithReason(absl::FailedPreconditionError("Configure: the machine is configured"),
                      "WRONG_STATE");
  ASSIGN_OR_RETURN(MachineParts parts,
                   BuildMachine(spec, options_.environment, [this](MachineStop stop) {
                     threads_->RequestStop(std::move(stop));
                   }));
  std::vector<Vcpu*> vcpus;
  for (const auto& vcpu : parts.vcpus) vcpus.push_back(vcpu.get());
  ASSIGN_OR_RETURN(threads_, VcpuThreads::Create(
                                 {.loop = options_.environment.loop,
                                  .ports = &parts.devices->ports(),
                                  .mmio = &parts.devices->mmio(),
                                  .make_thread = options_.make_vcpu_thread,
                                  .on_stop = [this](MachineStop stop) { OnStop(std::move(stop)); }},
                                 std::move(vcpus)));
  state_.SetPlan(std::move(parts.plan));
  parts_ = std::move(parts);
  return absl::OkStatus();
}

absl::Status Machine::Start() {
  if (state_.state() != MachineState::kCreated) return WrongState("Start");
  if (!parts_.has_value())
    return WithReason(absl::FailedPreconditionError("Start: the machine is not configured"),
                      "WRONG_STATE");
  RETURN_IF_ERROR(state_.Change(MachineState::kStarting));
  threads_->Run();  // at once: the guest runs while the rest is told
  Tell();
  return Change(MachineState::kRunning);
}

void Machine::Pause(Done done) {
  if (state_.state() != MachineState::kRunning) return done(WrongState("Pause"));
  pausers_.push_back(std::move(done));
  ParkAll();
}

absl::Status Machine::Resume() {
  if (state_.state() != MachineState::kPaused || parking_) return WrongState("Resume");
  RETURN_IF_ERROR(Change(MachineState::kRunning));
  threads_->Run();
  return absl::OkStatus();
}

void Machine::Reset(Done done) {
  if (state_.state() != MachineState::kRunning && state_.state() != MachineState::kPaused)
    return done(WrongState("Reset"));
  resetters_.push_back(std::move(done));
  if (!reset_reason_.has_value()) reset_reason_ = "RESET_REQUESTED";
  ParkAll();
}

absl::Status Machine::PowerButton() {
  if (state_.state() != MachineState::kRunning) return WrongState("PowerButton");
  return parts_->devices->power().PressPowerButton();
}

void Machine::Stop(Done done) {
  if (IsTerminal(state_.state())) return done(WrongState("Stop"));
  stoppers_.push_back(std::move(done));
  if (!ending_.has_value())
    ending_ = {MachineStop::Kind::kShutdown, "STOP_REQUESTED", "stopped on request"};
  if (state_.state() != MachineState::kStopping)
    (void)Change(MachineState::kStopping, ending_->reason);
  ParkAll();
}

// What a vCPU, or the guest through a device, brought about.
void Machine::OnStop(MachineStop stop) {
  if (IsTerminal(state_.state())) return;
  if (stop.kind == MachineStop::Kind::kReset) {
    if (!reset_reason_.has_value()) reset_reason_ = stop.reason;
  } else if (!ending_.has_value()) {
    ending_ = std::move(stop);
    if (ending_->kind == MachineStop::Kind::kShutdown)
      (void)Change(MachineState::kStopping, ending_->reason, ending_->message);
  }
  ParkAll();
}

void Machine::ParkAll() {
  if (std::exchange(parking_, true)) return;
  if (threads_ == nullptr) return Settle();
  threads_->Park([this] { Settle(); });
}

// All vCPUs are parked.
void Machine::Settle() {
  parking_ = false;
  if (ending_.has_value()) return End();
  if (reset_reason_.has_value()) return Reboot();
  if (!pausers_.empty()) return BecomePaused();
  RunOn();
}

void Machine::End() {
  const MachineStop ending = *ending_;
  absl::Status status = Change(
      ending.kind == MachineStop::Kind::kFailed ? MachineState::kFailed : MachineState::kStopped,
      ending.reason, ending.message);
  if (!status.ok()) Log(LogLevel::kError, "end of the machine", {{"error", status.message()}});
  const absl::Status ended = WithReason(
      absl::FailedPreconditionError(absl::StrCat("the machine has ended: ", ending.message)),
      "MACHINE_ENDED");
  AnswerAll(&pausers_, ended);
  AnswerAll(&resetters_, ended);
  AnswerAll(&stoppers_, absl::OkStatus());
}

void Machine::Reboot() {
  const std::string reason = *std::exchange(reset_reason_, std::nullopt);
  if (absl::Status status = RebuildMachine(*parts_); !status.ok()) {
    ending_ = {MachineStop::Kind::kFailed, "RESET_FAILED",
               absl::StrCat("the machine could not be reset: ", status.message())};
    return End();
  }
  (void)Change(MachineState::kRunning, reason, "", /*boots=*/true);
  AnswerAll(&resetters_, absl::OkStatus());
  if (!pausers_.empty()) return BecomePaused();
  RunOn();
}

void Machine::BecomePaused() {
  for (const auto& vcpu : parts_->vcpus)
    if (absl::Status status = vcpu->NotifyPaused(); !status.ok())
      Log(LogLevel::kWarning, "kvmclock was not told of the pause",
          {{"vcpu", vcpu->id()}, {"error", status.message()}});
  AnswerAll(&pausers_, Change(MachineState::kPaused));
}

void Machine::RunOn() {
  if (state_.state() == MachineState::kRunning) threads_->Run();
}

}  // namespace drover
