#include "agent/vms/managed_vm.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/errors/field_violations.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr std::chrono::seconds kRewrite(5);

VmView ViewOf(const VmRecord& record) {
  VmView view;
  view.id = record.id;
  view.uid = record.uid;
  view.spec = record.spec;
  view.labels = record.labels;
  view.state = record.state;
  view.state_reason = record.state_reason;
  view.state_message = record.state_message;
  view.create_time = record.create_time;
  view.state_change_time = record.state_change_time;
  view.generation = record.generation;
  view.boot_count = record.boot_count;
  view.plan = record.plan;
  return view;
}

VmWorkerView WorkerOf(const WorkerSession& session) {
  const WorkerIdentity& identity = session.identity();
  return {identity.pid, identity.uid, identity.cgroup, identity.launch_time, session.version()};
}

// The worker's count is on top of what was before it; it never makes the VM's go back or overflow.
int32_t BootCount(const VmRecord& record, uint32_t workers) {
  const int64_t sum = static_cast<int64_t>(record.boots_before) + workers;
  return static_cast<int32_t>(
      std::clamp<int64_t>(sum, record.boot_count, std::numeric_limits<int32_t>::max()));
}

// The API's state for a machine that has not ended; the present one where it says nothing new.
VmState StateFor(const VmRecord& record, ReportedState reported) {
  if (record.stop_deadline != 0) return VmState::kStopping;
  switch (reported) {
    case ReportedState::kStarting:
      return VmState::kStarting;
    case ReportedState::kRunning:
      return VmState::kRunning;
    case ReportedState::kPaused:
      return VmState::kPaused;
    default:
      return record.state;
  }
}

}  // namespace

ManagedVm::ManagedVm(const VmEnvironment* environment, VmRecord record)
    : environment_(environment),
      id_(record.id),
      request_id_(record.request_id),
      spec_(record.spec),
      gate_([environment](OperationGate::Task task) {
        return environment->executor->Post(std::move(task));
      }),
      retry_(environment->limits.first_retry),
      record_(std::move(record)) {}

ManagedVm::~ManagedVm() { Abandon(); }

void ManagedVm::Abandon() {
  if (const auto session = this->session()) session->Close();
}

VmView ManagedVm::View() const {
  MutexLock lock(&mutex_);
  VmView view = ViewOf(record_);
  if (session_ != nullptr) view.worker = WorkerOf(*session_);
  if (unsettled_) {
    view.state = VmState::kUnknown;
    view.state_reason = "ADOPTING";
    view.state_message = "the agent has just started and has not heard of the VM's worker yet";
  }
  return view;
}

VmRecord ManagedVm::record() const {
  MutexLock lock(&mutex_);
  return record_;
}

std::string ManagedVm::instance_id() const {
  MutexLock lock(&mutex_);
  return record_.instance_id;
}

std::shared_ptr<WorkerSession> ManagedVm::session() const {
  MutexLock lock(&mutex_);
  return session_;
}

void ManagedVm::SetSession(std::shared_ptr<WorkerSession> session) {
  {
    MutexLock lock(&mutex_);
    session_.swap(session);
  }
  if (session != nullptr) session->Close();  // the one before
}

absl::Status ManagedVm::NotFound() const {
  return WithReason(absl::NotFoundError(absl::StrCat("there is no VM ", id_)), "VM_NOT_FOUND");
}

absl::Status ManagedVm::CheckEntry(VmOperation operation, const std::string& etag) const {
  MutexLock lock(&mutex_);
  if (gone_) return NotFound();
  if (!etag.empty() && etag != absl::StrCat(record_.generation))
    return WithReason(absl::AbortedError(absl::StrCat("VM ", id_, " has changed: its etag is ",
                                                      record_.generation, ", not ", Quoted(etag),
                                                      "; read it again")),
                      "ETAG_MISMATCH");
  const bool deletes = operation == VmOperation::kDelete || operation == VmOperation::kDeleteForce;
  if (record_.deleting && deletes) return absl::OkStatus();
  if (record_.deleting)
    return WithReason(
        absl::FailedPreconditionError(absl::StrCat(
            "VM ", id_, " is being deleted: ", VmOperationName(operation), " is not possible")),
        "WRONG_STATE");
  return CheckTransition(id_, unsettled_ ? VmState::kUnknown : record_.state, operation);
}

absl::StatusOr<OperationGate::Hold> ManagedVm::Enter(VmOperation operation,
                                                     const std::string& etag) {
  const auto limit = environment_->limits.operation_wait;
  std::optional<OperationGate::Hold> hold = gate_.Acquire(std::chrono::steady_clock::now() + limit);
  if (!hold.has_value())
    return WithRetryDelay(
        WithReason(absl::AbortedError(absl::StrCat("another operation on VM ", id_,
                                                   " is under way; try again when it has ended")),
                   "OPERATION_IN_PROGRESS"),
        std::chrono::seconds(1));
  RETURN_IF_ERROR(CheckEntry(operation, etag));
  return *std::move(hold);
}

void ManagedVm::SetRecord(VmRecord record) {
  MutexLock lock(&mutex_);
  record_ = std::move(record);
  changed_.SignalAll();
}

void ManagedVm::SetState(VmRecord* record, VmState state, const std::string& reason,
                         const std::string& message) const {
  if (record->state != state) record->state_change_time = environment_->clock->UnixNanos();
  record->state = state;
  record->state_reason = reason;
  record->state_message = message;
}

void ManagedVm::CommitAnyway(VmRecord next, Durability durability) {
  ++next.generation;
  PutAnyway(next, durability);
  SetRecord(std::move(next));
}

void ManagedVm::PutAnyway(const VmRecord& record, Durability durability) {
  const absl::Status status = environment_->registry->Put(record, durability);
  dirty_ = !status.ok();
  if (status.ok()) return;
  Log(LogLevel::kWarning, "a VM's state cannot be recorded yet",
      {{"vm", id_}, {"error", status.ToString()}});
  KickAfter(kRewrite);
}

void ManagedVm::ApplyLatest() {
  const auto session = this->session();
  const std::optional<MachineReport> report = session ? session->latest() : std::nullopt;
  if (!report.has_value() || IsTerminal(report->state)) return;
  const VmRecord before = record();
  VmRecord next = before;
  const VmState state = StateFor(before, report->state);
  if (state != before.state)
    SetState(&next, state, state == VmState::kStopping ? "STOP_REQUESTED" : "", "");
  next.boot_count = BootCount(before, report->boot_count);
  if (report->plan != VmPlan()) next.plan = report->plan;
  if (next == before) return;
  // A guest that boots again and again keeps its clients' etags good.
  if (state != before.state) ++next.generation;
  PutAnyway(next, Durability::kLazy);
  SetRecord(std::move(next));
}

absl::StatusOr<VmView> ManagedVm::Control(VmOperation operation, const std::string& etag,
                                          Limit limit, ReportedState expected,
                                          const ControlCall& call) {
  ASSIGN_OR_RETURN(const OperationGate::Hold hold, Enter(operation, etag));
  const auto session = this->session();
  const auto client = session ? session->client() : nullptr;
  if (client == nullptr)
    return WithReason(absl::UnavailableError("the VM's worker is not connected; try again"),
                      "WORKER_UNRESPONSIVE");
  const absl::StatusOr<MachineReport> report = call(client.get(), limit);
  // Who does not answer is hung up on; Reconcile finds out what it is worth.
  if (absl::IsUnavailable(report.status())) client->Close();
  if (!report.ok()) return Annotate(report.status(), absl::StrCat("VM ", id_));
  if (report->state != expected)
    return WithReason(absl::InternalError(absl::StrCat("the worker of VM ", id_,
                                                       " answered with another state than asked")),
                      "WORKER_MISBEHAVES");
  ApplyLatest();
  return View();
}

absl::StatusOr<VmView> ManagedVm::Pause(const std::string& etag) {
  return Control(VmOperation::kPause, etag, environment_->limits.call, ReportedState::kPaused,
                 [](WorkerClient* client, Limit limit) { return client->Pause(limit); });
}

absl::StatusOr<VmView> ManagedVm::Resume(const std::string& etag) {
  return Control(VmOperation::kResume, etag, environment_->limits.call, ReportedState::kRunning,
                 [](WorkerClient* client, Limit limit) { return client->Resume(limit); });
}

absl::StatusOr<VmView> ManagedVm::Reboot(const std::string& etag) {
  return Control(VmOperation::kReboot, etag, environment_->limits.reset, ReportedState::kRunning,
                 [](WorkerClient* client, Limit limit) { return client->Reset(limit); });
}

absl::StatusOr<ConsoleAttachment> ManagedVm::AttachConsole() {
  ASSIGN_OR_RETURN(const OperationGate::Hold hold, Enter(VmOperation::kAttachConsole, ""));
  const auto session = this->session();
  const auto client = session ? session->client() : nullptr;
  if (client == nullptr)
    return WithReason(absl::UnavailableError("the VM's worker is not connected; try again"),
                      "WORKER_UNRESPONSIVE");
  absl::StatusOr<WorkerClient::Console> console = client->AttachConsole(environment_->limits.call);
  if (absl::IsUnavailable(console.status())) client->Close();
  if (!console.ok()) return Annotate(console.status(), absl::StrCat("VM ", id_));
  return ConsoleAttachment{std::move(console->socket), console->lost_bytes};
}

}  // namespace drover
