#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/errors/field_violations.h"
#include "agent/vms/managed_vm.h"
#include "agent/vms/worker_death.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr std::chrono::seconds kMaxGrace(3600);

}  // namespace

absl::StatusOr<VmView> ManagedVm::Stop(const std::string& etag, std::chrono::nanoseconds grace,
                                       bool force, const IsCancelled& cancelled) {
  if (grace < Limit(0) || grace > kMaxGrace)
    return InvalidFields({{"grace", "must be 0 to 3600 seconds"}});
  std::string instance;
  {
    ASSIGN_OR_RETURN(const OperationGate::Hold hold, Enter(VmOperation::kStop, etag));
    RETURN_IF_ERROR(BeginStop(grace, force));
    instance = instance_id();
  }
  Kick();
  return AwaitEnd(instance, cancelled);
}

// Records the wish with its deadline, which the next agent will keep, then presses the button; a
// wish that cannot be written is carried out all the same. The turn is not held while the guest
// takes its time: a second stop may shorten it.
absl::Status ManagedVm::BeginStop(Limit grace, bool force) {
  VmRecord next = record();
  const bool paused = next.state == VmState::kPaused;
  const int64_t deadline =
      std::max<int64_t>(1, environment_->clock->UnixNanos() + (force ? 0 : grace.count()));
  if (next.stop_deadline == 0) SetState(&next, VmState::kStopping, "STOP_REQUESTED", "");
  next.stop_deadline = next.stop_deadline == 0 ? deadline : std::min(next.stop_deadline, deadline);
  CommitAnyway(std::move(next), Durability::kLazy);
  if (force || grace == Limit(0)) return absl::OkStatus();
  const absl::Status pressed = PressPowerButton(paused);
  if (!pressed.ok())
    Log(LogLevel::kInfo, "the power button was not pressed",
        {{"vm", id_}, {"error", pressed.ToString()}});
  return absl::OkStatus();
}

// A paused guest is let go on first: it could not power off otherwise.
absl::Status ManagedVm::PressPowerButton(bool paused) {
  const auto session = this->session();
  const auto client = session ? session->client() : nullptr;
  if (client == nullptr) return absl::UnavailableError("not connected");
  absl::Status status;
  if (paused) status = client->Resume(environment_->limits.call).status();
  if (status.ok()) status = client->PowerButton(environment_->limits.call).status();
  if (absl::IsUnavailable(status)) client->Close();
  press_again_ = absl::IsFailedPrecondition(status);
  return status;
}

// False when the VM still has that worker at `deadline`.
bool ManagedVm::WaitEnded(const std::string& instance_id,
                          std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(&mutex_);
  while (!gone_ && record_.instance_id == instance_id)
    if (!changed_.WaitUntil(&mutex_, deadline) && std::chrono::steady_clock::now() >= deadline)
      return false;
  return true;
}

absl::StatusOr<VmView> ManagedVm::AwaitEnd(const std::string& instance_id,
                                           const IsCancelled& cancelled) {
  const VmLimits& limits = environment_->limits;
  const Limit left(std::clamp<int64_t>(record().stop_deadline - environment_->clock->UnixNanos(), 0,
                                       std::chrono::nanoseconds(kMaxGrace).count()));
  const auto deadline = std::chrono::steady_clock::now() + left + limits.stop_call +
                        limits.stop_exit + limits.kill_exit + limits.stop_slack;
  while (
      !WaitEnded(instance_id, std::min(deadline, std::chrono::steady_clock::now() + limits.look))) {
    if (cancelled && cancelled())
      return WithReason(absl::CancelledError(
                            absl::StrCat("nobody waits for the stop of VM ", id_, "; it goes on")),
                        "STOP_GOES_ON");
    if (std::chrono::steady_clock::now() >= deadline)
      return WithReason(absl::UnavailableError(
                            absl::StrCat("VM ", id_, " is being stopped, and has not ended yet")),
                        "STOP_IN_PROGRESS");
  }
  {
    MutexLock lock(&mutex_);
    if (gone_) return NotFound();
  }
  return View();
}

absl::Status ManagedVm::EndProcess(WorkerSession* session) {
  const VmLimits& limits = environment_->limits;
  const auto client = session->client();
  if (!session->exited() && client != nullptr) {
    const absl::Status stopped = client->Stop(limits.stop_call).status();
    const bool gone = ReasonOf(stopped) == "WORKER_GONE";  // ending, or only hung up
    if (stopped.ok() || gone) (void)session->WaitExit(gone ? limits.hangup : limits.stop_exit);
  }
  if (session->exited()) return absl::OkStatus();
  RETURN_IF_ERROR(environment_->helper->Kill(session->identity().instance_id));
  if (session->WaitExit(limits.kill_exit)) return absl::OkStatus();
  return WithReason(absl::UnavailableError(
                        absl::StrCat("the worker of VM ", id_, " was killed and does not end")),
                    "WORKER_UNKILLABLE");
}

// Ends the worker, asked first and killed then, and records the VM's end.
absl::Status ManagedVm::EndWorkerHeld() {
  if (const auto session = this->session()) RETURN_IF_ERROR(EndProcess(session.get()));
  return FinishExit();
}

// How a VM ends up whose worker has ended, said `end` or nothing.
VmRecord ManagedVm::FinalRecord(const VmRecord& before, const std::optional<MachineReport>& end,
                                const std::optional<ProcessEnd>& process) const {
  VmRecord next = before;
  const bool overdue =
      before.stop_deadline != 0 && environment_->clock->UnixNanos() >= before.stop_deadline;
  if (end.has_value()) {
    next.boot_count = std::max<int64_t>(
        before.boot_count, std::min<int64_t>(int64_t{before.boots_before} + end->boot_count,
                                             std::numeric_limits<int32_t>::max()));
    SetState(&next, end->state == ReportedState::kFailed ? VmState::kFailed : VmState::kStopped,
             end->reason, end->message);
  } else if (overdue) {
    SetState(&next, VmState::kStopped, "STOP_FORCED",
             "the worker was killed: it did not end in time");
  } else if (before.state == VmState::kStarting) {
    SetInterrupted(&next);
  } else {
    const WorkerDeath death = DescribeDeath(process);
    SetState(&next, VmState::kFailed, death.reason, death.message);
  }
  if (before.deleting) SetState(&next, VmState::kStopping, "DELETE_REQUESTED", "");
  next.instance_id.clear();
  next.stop_deadline = 0;
  return next;
}

void ManagedVm::SetInterrupted(VmRecord* record) const {
  SetState(record, record->boot_count == 0 ? VmState::kCreated : VmState::kStopped,
           kStartInterrupted, "the agent ended while it started the VM");
  record->instance_id.clear();
  record->stop_deadline = 0;
}

// The worker is dead, or killed here where nobody is connected to it. Its last words stay on disk
// until its end is on record, so that an agent that dies in between leaves them to the next.
absl::Status ManagedVm::FinishExit() {
  const VmRecord before = record();
  const auto session = this->session();
  std::optional<MachineReport> end = session ? session->ending() : std::nullopt;
  std::optional<ProcessEnd> process;
  if (!end.has_value()) {
    ASSIGN_OR_RETURN(
        const GoneWorker gone,
        environment_->janitor->Collect(before.instance_id, environment_->limits.kill_exit));
    const auto words = DecodeLastWords(gone.last_words, before.instance_id);
    if (words.ok()) end = *words;
    process = gone.end;
  }
  const VmRecord final_record = FinalRecord(before, end, process);
  SetSession(nullptr);
  Conclude(final_record);
  Log(LogLevel::kInfo, "a VM has ended",
      {{"vm", id_},
       {"state", VmStateName(final_record.state)},
       {"reason", final_record.state_reason},
       {"message", final_record.state_message}});
  const bool failed = final_record.state == VmState::kFailed;
  environment_->observer->OnExit(failed ? VmState::kFailed : VmState::kStopped,
                                 final_record.state_reason);
  return absl::OkStatus();
}

// The VM is shown as ended once nothing is left, but for an end that cannot be written yet.
void ManagedVm::Conclude(VmRecord next) {
  leftover_ = instance_id();
  ++next.generation;
  PutAnyway(next, Durability::kDurable);
  RemoveLeftover();
  SetRecord(std::move(next));
}

void ManagedVm::RemoveLeftover() {
  if (leftover_.empty() || dirty_) return;
  if (!environment_->janitor->End(leftover_, environment_->limits.kill_exit).ok())
    environment_->janitor->Discard(leftover_);
  leftover_.clear();
}

absl::Status ManagedVm::Delete(const std::string& etag, bool force) {
  ASSIGN_OR_RETURN(const OperationGate::Hold hold,
                   Enter(force ? VmOperation::kDeleteForce : VmOperation::kDelete, etag));
  VmRecord next = record();
  if (!next.instance_id.empty() && !next.deleting) {
    next.deleting = true;
    SetState(&next, VmState::kStopping, "DELETE_REQUESTED", "");
    CommitAnyway(std::move(next), Durability::kLazy);
  }
  const absl::Status status = FinishDelete();
  if (!status.ok() && record().deleting) RetryLater();
  return status;
}

absl::Status ManagedVm::FinishDelete() {
  if (!instance_id().empty()) RETURN_IF_ERROR(EndWorkerHeld());
  const absl::Status removed = environment_->registry->Delete(id_);
  if (!removed.ok() && record().deleting)
    return Annotate(removed, absl::StrCat("VM ", id_,
                                          " has been ended, and will be gone once its "
                                          "record can be removed"));
  RETURN_IF_ERROR(removed);
  dirty_ = false;
  RemoveLeftover();
  {
    MutexLock lock(&mutex_);
    gone_ = true;
    changed_.SignalAll();
  }
  environment_->forget(this);
  return absl::OkStatus();
}

}  // namespace drover
