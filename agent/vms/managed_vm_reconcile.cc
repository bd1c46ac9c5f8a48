#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/vms/managed_vm.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {

void ManagedVm::Kick() {
  {
    MutexLock lock(&mutex_);
    if (std::exchange(kicked_, true)) return;
  }
  gate_.RunWhenFree([self = shared_from_this()] {
    {
      MutexLock lock(&self->mutex_);
      self->kicked_ = false;
    }
    self->Reconcile();
  });
}

void ManagedVm::KickAfter(Limit delay) {
  environment_->loop->PostAfter(delay, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Kick();
  });
}

// Each time a little later.
void ManagedVm::RetryLater() {
  retry_at_ = std::chrono::steady_clock::now() + retry_;
  KickAfter(retry_);
  retry_ = std::min(2 * retry_, environment_->limits.last_retry);
}

void ManagedVm::BeginAdoption() {
  {
    MutexLock lock(&mutex_);
    unsettled_ = !record_.instance_id.empty() || record_.deleting;
    if (!unsettled_) return;
  }
  adopting_ = true;
  Kick();
}

bool ManagedVm::WaitAdopted(std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(&mutex_);
  while (unsettled_ && !gone_)
    if (!changed_.WaitUntil(&mutex_, deadline) && std::chrono::steady_clock::now() >= deadline)
      break;
  return !unsettled_ || gone_;
}

void ManagedVm::ReportAdoption(AdoptionResult result) {
  if (!adopting_) return;
  const bool unknown = result == AdoptionResult::kUnknown;
  if (!unknown || !reported_unknown_) environment_->observer->OnAdopted(result);
  reported_unknown_ = unknown;
  adopting_ = unknown;
}

void ManagedVm::Reconcile() {
  if (environment_->stopping) return;
  {
    MutexLock lock(&mutex_);
    if (gone_) return;
  }
  if (record().deleting) {
    const absl::Status status = FinishDelete();
    ReportAdoption(status.ok() ? AdoptionResult::kInterrupted : AdoptionResult::kUnknown);
    if (!status.ok()) RetryLater();
  } else {
    ReconcileWorker();
    if (dirty_) PutAnyway(record(), Durability::kDurable);
    RemoveLeftover();
  }
  MutexLock lock(&mutex_);
  unsettled_ = false;
  changed_.SignalAll();
}

void ManagedVm::ReconcileWorker() {
  if (instance_id().empty()) return;
  const auto session = this->session();
  const bool early = std::chrono::steady_clock::now() < retry_at_;
  if (session != nullptr && session->exited())
    NoteExit();
  else if (session != nullptr && session->connected())
    ApplyLatest();
  else if (session != nullptr && !early)
    Rejoin(session.get());
  else if (!early)
    AdoptHeld();
  EndIfDue();
  if (instance_id().empty())
    ReportAdoption(record().state_reason == kStartInterrupted ? AdoptionResult::kInterrupted
                                                              : AdoptionResult::kGone);
}

void ManagedVm::NoteExit() {
  const absl::Status status = FinishExit();
  if (status.ok()) return;
  Log(LogLevel::kWarning, "a VM's worker has ended, and how cannot be found out yet",
      {{"vm", id_}, {"error", status.ToString()}});
  RetryLater();
}

// Looks for the worker of an earlier agent. Unknown is not gone: only a helper that knows the
// worker to have ended, or to have never been, makes it so.
void ManagedVm::AdoptHeld() {
  absl::StatusOr<LaunchedWorker> worker = environment_->helper->Adopt(instance_id());
  if (absl::IsNotFound(worker.status())) return NoteExit();
  if (!worker.ok()) return MarkUnknown(worker.status());
  worker->identity.instance_id = instance_id();
  SetSession(NewSession(*std::move(worker)));
  Rejoin(session().get());
}

// The connection has ended, or there was none yet. A worker that ends hangs up a moment before its
// process is gone, so that is waited for.
void ManagedVm::Rejoin(WorkerSession* session) {
  const bool anew = session->client() != nullptr;
  if (anew && session->WaitExit(environment_->limits.hangup)) return NoteExit();
  const absl::StatusOr<WorkerGreeting> greeting = session->Join(environment_->limits.join);
  if (greeting.ok()) {
    session->KeepAlive(environment_->limits.ping_period, environment_->limits.ping);
    return Joined(*greeting);
  }
  if (ReasonOf(greeting.status()) == "WORKER_GONE" &&
      session->WaitExit(environment_->limits.hangup))
    return NoteExit();
  MarkUnknown(greeting.status());
}

void ManagedVm::Joined(const WorkerGreeting& greeting) {
  const auto now = std::chrono::steady_clock::now();
  if (now - joined_at_ > environment_->limits.last_retry) retry_ = environment_->limits.first_retry;
  joined_at_ = now;
  if (greeting.machine.state == ReportedState::kCreated) return UndoInterrupted();
  ApplyLatest();
  ReportAdoption(AdoptionResult::kAdopted);
}

// Launched, and never started: the agent that did it is gone.
void ManagedVm::UndoInterrupted() {
  const absl::StatusOr<GoneWorker> gone =
      environment_->janitor->Collect(instance_id(), environment_->limits.kill_exit);
  if (!gone.ok()) return MarkUnknown(gone.status());
  VmRecord next = record();
  SetInterrupted(&next);
  SetSession(nullptr);
  Conclude(std::move(next));
}

void ManagedVm::MarkUnknown(const absl::Status& why) {
  ReportAdoption(AdoptionResult::kUnknown);
  RetryLater();
  const VmRecord before = record();
  VmRecord next = before;
  const std::string reason = ReasonOf(why);
  SetState(&next, VmState::kUnknown, reason.empty() ? "WORKER_UNRESPONSIVE" : reason,
           std::string(why.message()));
  if (before.state == VmState::kUnknown && before.state_reason == next.state_reason) return;
  Log(LogLevel::kWarning, "a VM's worker is not known to be gone and does not answer",
      {{"vm", id_}, {"error", why.ToString()}});
  CommitAnyway(std::move(next), Durability::kLazy);
}

// A kick after `left`, unless one is due by then anyway.
void ManagedVm::ArmTimer(Limit left) {
  const auto now = std::chrono::steady_clock::now();
  if (armed_until_ > now && armed_until_ <= now + left + std::chrono::milliseconds(1)) return;
  armed_until_ = now + left;
  KickAfter(left);
}

// A guest that did not listen to its power button may only not have come so far, so it is pressed
// until the guest takes it. Returns when to look again.
ManagedVm::Limit ManagedVm::PressAgain(Limit left) {
  (void)PressPowerButton(/*paused=*/false);
  return press_again_ ? std::min(left, environment_->limits.press_again) : left;
}

// Ends a worker whose grace is over, or that does not leave though its machine has ended.
void ManagedVm::EndIfDue() {
  const VmRecord now = record();
  if (now.instance_id.empty()) return;
  const auto session = this->session();
  Limit left = Limit::max();
  if (now.stop_deadline != 0) left = Limit(now.stop_deadline - environment_->clock->UnixNanos());
  const auto since = session ? session->ending_since() : std::nullopt;
  if (since.has_value())
    left = std::min<Limit>(left,
                           *since + environment_->limits.linger - std::chrono::steady_clock::now());
  if (left == Limit::max()) return;
  if (left > Limit(0))
    return ArmTimer(press_again_ && !since.has_value() ? PressAgain(left) : left);
  const absl::Status status = EndWorkerHeld();
  if (status.ok()) return;
  Log(LogLevel::kWarning, "a VM cannot be ended yet", {{"vm", id_}, {"error", status.ToString()}});
  RetryLater();
}

}  // namespace drover
