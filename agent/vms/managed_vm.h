#ifndef DROVER_AGENT_VMS_MANAGED_VM_H_
#define DROVER_AGENT_VMS_MANAGED_VM_H_

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/registry/vm_record.h"
#include "agent/vms/operation_gate.h"
#include "agent/vms/vm_environment.h"
#include "agent/vms/vm_transitions.h"
#include "agent/vms/worker_session.h"
#include "vmm/base/mutex.h"

namespace drover {

// The reason of a VM whose start an agent did not live to finish.
inline constexpr char kStartInterrupted[] = "START_INTERRUPTED";

// One VM of this host: its record, its worker while it has one, and its operations.
//
// One operation at a time has the VM's turn (OperationGate): a client's call, or Reconcile, which
// runs whenever something happened (the worker ended, hung up or reported; a deadline came; a write
// is to be repeated) and brings record and worker in line. Only who has the turn changes the
// record; mutex_ is held for a moment to read or replace it, and never across a call that blocks.
//
// What is recorded when: what only the registry knows (that a VM exists, its worker's id, a wish to
// stop or delete it, how it ended) is written before it is acted upon or answered, and the
// operation fails when it cannot be; but no guest is kept alive by a disk that is full: a stop and
// a forced delete end it, and are written when that is possible again. What the worker itself can
// tell (running, paused, boots) is written lazily: the next agent asks the worker. See StartHeld
// for the order of a start.
//
// Thread-safe; held by shared_ptr, since background work keeps it alive.
class ManagedVm : public std::enable_shared_from_this<ManagedVm> {
 public:
  ManagedVm(const VmEnvironment* environment, VmRecord record);
  ~ManagedVm();

  const std::string& id() const { return id_; }
  const std::string& request_id() const { return request_id_; }
  const VmSpec& spec() const { return spec_; }
  VmView View() const;
  std::string instance_id() const;

  // As VmBackend's; `etag` may be empty.
  absl::StatusOr<VmView> Start(const std::string& etag);
  absl::StatusOr<VmView> Stop(const std::string& etag, std::chrono::nanoseconds grace, bool force,
                              const IsCancelled& cancelled);
  absl::StatusOr<VmView> Pause(const std::string& etag);
  absl::StatusOr<VmView> Resume(const std::string& etag);
  absl::StatusOr<VmView> Reboot(const std::string& etag);
  absl::Status Delete(const std::string& etag, bool force);
  absl::StatusOr<ConsoleAttachment> AttachConsole();

  // Takes up, in the background, what an earlier agent left: once, before anything else.
  void BeginAdoption();
  // Waits until the first attempt to adopt is over; false when `deadline` comes first.
  bool WaitAdopted(std::chrono::steady_clock::time_point deadline);

  // Lets Reconcile run soon. Any thread; does not block.
  void Kick();
  // Hangs up on the worker; for the agent's end.
  void Abandon();

 private:
  using Limit = std::chrono::nanoseconds;
  using ControlCall =
      std::function<absl::StatusOr<MachineReport>(WorkerClient*, std::chrono::nanoseconds)>;

  // The turn for `operation`, when it is allowed now.
  absl::StatusOr<OperationGate::Hold> Enter(VmOperation operation, const std::string& etag);
  absl::Status CheckEntry(VmOperation operation, const std::string& etag) const;
  absl::Status NotFound() const;

  // The record. All but record() need the turn.
  VmRecord record() const;
  void SetRecord(VmRecord record);
  // Sets a state, and since when.
  void SetState(VmRecord* record, VmState state, const std::string& reason,
                const std::string& message) const;
  // Takes the record over as the next generation whether it can be written or not; writing is
  // repeated until it is.
  void CommitAnyway(VmRecord next, Durability durability);
  void PutAnyway(const VmRecord& record, Durability durability);
  // Takes over what the worker said last of a machine that has not ended.
  void ApplyLatest();

  // managed_vm_start.cc
  absl::Status StartHeld();
  VmRecord StartingRecord(const VmRecord& before) const;
  absl::StatusOr<std::shared_ptr<WorkerSession>> LaunchWorker(const VmRecord& starting);
  std::shared_ptr<WorkerSession> NewSession(LaunchedWorker worker);
  absl::Status UndoStart(const VmRecord& before, const VmRecord& starting, bool recorded,
                         const absl::Status& error);

  // managed_vm_stop.cc
  absl::Status BeginStop(Limit grace, bool force);
  absl::Status PressPowerButton(bool paused);
  absl::StatusOr<VmView> AwaitEnd(const std::string& instance_id, const IsCancelled& cancelled);
  bool WaitEnded(const std::string& instance_id, std::chrono::steady_clock::time_point deadline);
  absl::Status EndWorkerHeld();
  absl::Status EndProcess(WorkerSession* session);
  // The worker's process has ended: records how. Nothing has changed where that cannot be found
  // out.
  absl::Status FinishExit();
  // Records a VM without worker, and then removes what the worker of before left.
  void Conclude(VmRecord next);
  void RemoveLeftover();
  void SetInterrupted(VmRecord* record) const;
  VmRecord FinalRecord(const VmRecord& before, const std::optional<MachineReport>& end,
                       const std::optional<ProcessEnd>& process) const;
  absl::Status FinishDelete();

  // managed_vm_reconcile.cc
  void Reconcile();
  void ReconcileWorker();
  void NoteExit();
  void AdoptHeld();
  void Rejoin(WorkerSession* session);
  void Joined(const WorkerGreeting& greeting);
  void MarkUnknown(const absl::Status& why);
  void UndoInterrupted();
  void EndIfDue();
  Limit PressAgain(Limit left);
  void ArmTimer(Limit left);
  void RetryLater();
  void KickAfter(Limit delay);
  void ReportAdoption(AdoptionResult result);

  absl::StatusOr<VmView> Control(VmOperation operation, const std::string& etag, Limit limit,
                                 ReportedState expected, const ControlCall& call);
  std::shared_ptr<WorkerSession> session() const;
  void SetSession(std::shared_ptr<WorkerSession> session);

  const VmEnvironment* const environment_;
  const std::string id_;
  const std::string request_id_;
  const VmSpec spec_;
  OperationGate gate_;

  // Of whoever has the turn.
  bool dirty_ = false;    // the record is not what the registry holds
  std::string leftover_;  // an ended worker's instance: stays until its end is in the registry
  Limit retry_;
  std::chrono::steady_clock::time_point retry_at_;  // no sooner is a silent worker tried again
  std::chrono::steady_clock::time_point joined_at_;
  std::chrono::steady_clock::time_point armed_until_;
  bool press_again_ = false;  // the guest did not listen to its power button yet
  bool adopting_ = false;     // an earlier agent's worker, not resolved yet
  bool reported_unknown_ = false;

  mutable Mutex mutex_;
  CondVar changed_;
  VmRecord record_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<WorkerSession> session_ ABSL_GUARDED_BY(mutex_);
  bool kicked_ ABSL_GUARDED_BY(mutex_) = false;
  bool unsettled_ ABSL_GUARDED_BY(mutex_) = false;  // the first attempt to adopt is not over
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace drover

#endif  // DROVER_AGENT_VMS_MANAGED_VM_H_
