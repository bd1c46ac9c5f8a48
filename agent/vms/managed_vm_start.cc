#include <chrono>
#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/vms/managed_vm.h"
#include "agent/vms/uuid.h"
#include "agent/vms/worker_death.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

// A durable write under way on another thread.
class BackgroundPut {
 public:
  BackgroundPut(const VmEnvironment& environment, const VmRecord& record) {
    auto task = std::make_shared<std::packaged_task<absl::Status()>>(
        [registry = environment.registry, record] {
          return registry->Put(record, Durability::kDurable);
        });
    result_ = task->get_future();
    if (!environment.executor->Post([task] { (*task)(); })) (*task)();
  }
  absl::Status Wait() { return result_.get(); }

 private:
  std::future<absl::Status> result_;
};

MachineConfig ConfigOf(const VmRecord& record, const std::vector<std::string>& withheld) {
  return {record.id,
          static_cast<uint32_t>(record.spec.vcpus),
          static_cast<uint64_t>(record.spec.memory_mib) << 20,
          record.spec.command_line,
          record.spec.features,
          withheld};
}

WorkerLaunchOptions LaunchOptionsOf(const VmRecord& record) {
  return {record.instance_id, record.spec.kernel_path, record.spec.initrd_path,
          static_cast<uint32_t>(record.spec.vcpus),
          static_cast<uint64_t>(record.spec.memory_mib) << 20};
}

// What to tell of a start whose worker hung up: its last words know more.
absl::Status WithLastWords(const absl::Status& error, const GoneWorker& gone,
                           const std::string& instance_id) {
  if (ReasonOf(error) != "WORKER_GONE") return error;
  const auto end = DecodeLastWords(gone.last_words, instance_id);
  if (!end.ok()) {
    const WorkerDeath death = DescribeDeath(gone.end);
    return WithReason(absl::InternalError(absl::StrCat("its worker ended: ", death.message)),
                      death.reason);
  }
  return WithReason(absl::InternalError(absl::StrCat("the worker ended while it started the VM: ",
                                                     end->reason, " ", end->message)),
                    end->reason.empty() ? "WORKER_DIED" : end->reason);
}

}  // namespace

absl::StatusOr<VmView> ManagedVm::Start(const std::string& etag) {
  ASSIGN_OR_RETURN(const OperationGate::Hold hold, Enter(VmOperation::kStart, etag));
  const auto begin = std::chrono::steady_clock::now();
  const absl::Status status = StartHeld();
  environment_->observer->OnStart(std::chrono::steady_clock::now() - begin, status);
  RETURN_IF_ERROR(status);
  return View();
}

VmRecord ManagedVm::StartingRecord(const VmRecord& before) const {
  VmRecord starting = before;
  SetState(&starting, VmState::kStarting, "", "");
  starting.instance_id = NewUuid();
  starting.boots_before = before.boot_count;
  starting.stop_deadline = 0;
  ++starting.generation;
  return starting;
}

// One durable write a start, and the worker is made while it is under way, so that StartVm costs
// the longer of the two and not their sum. StartVm answers only when both are done: a VM that a
// client was told runs is on record with its worker's id. Until then, whatever instant the agent
// dies at, the VM is not lost to a client:
//  - record written, no worker or one that has not started: the next agent undoes the start;
//  - record written, worker runs: the next agent adopts it;
//  - worker made, record not written: no VM names its directory, and the next agent removes it; no
//    client was told of it.
// A loss of power ends the workers, too. That the VM runs is written lazily: the worker tells it.
absl::Status ManagedVm::StartHeld() {
  const VmRecord before = record();
  const VmRecord starting = StartingRecord(before);
  SetRecord(starting);
  BackgroundPut put(*environment_, starting);
  absl::StatusOr<std::shared_ptr<WorkerSession>> session = LaunchWorker(starting);
  const absl::Status recorded = put.Wait();
  const absl::Status error = recorded.ok() ? session.status() : recorded;
  if (!error.ok()) {
    if (session.ok()) (*session)->Close();
    return UndoStart(before, starting, recorded.ok(), error);
  }
  dirty_ = false;
  RemoveLeftover();
  joined_at_ = std::chrono::steady_clock::now();
  (*session)->KeepAlive(environment_->limits.ping_period, environment_->limits.ping);
  SetSession(*std::move(session));
  ApplyLatest();
  return absl::OkStatus();
}

std::shared_ptr<WorkerSession> ManagedVm::NewSession(LaunchedWorker worker) {
  const std::string socket = absl::StrCat(environment_->workers_directory, "/",
                                          worker.identity.instance_id, "/control.sock");
  auto session = std::make_shared<WorkerSession>(environment_->loop, std::move(worker), socket,
                                                 [weak = weak_from_this()] {
                                                   if (const auto self = weak.lock()) self->Kick();
                                                 });
  session->Watch();
  return session;
}

absl::StatusOr<std::shared_ptr<WorkerSession>> ManagedVm::LaunchWorker(const VmRecord& starting) {
  ASSIGN_OR_RETURN(LaunchedWorker worker, environment_->helper->Launch(LaunchOptionsOf(starting)));
  worker.identity.instance_id = starting.instance_id;
  std::shared_ptr<WorkerSession> session = NewSession(std::move(worker));
  const auto greeting =
      session->BringUp(ConfigOf(starting, environment_->withheld), environment_->limits.bring_up);
  if (greeting.ok() && greeting->machine.state == ReportedState::kRunning) return session;
  session->Close();
  if (!greeting.ok()) return greeting.status();
  return WithReason(absl::InternalError("the worker started the machine, and it does not run"),
                    "WORKER_MISBEHAVES");
}

// Ends what was launched and gives the VM back the state it had, as a new generation where the
// start was recorded.
absl::Status ManagedVm::UndoStart(const VmRecord& before, const VmRecord& starting, bool recorded,
                                  const absl::Status& error) {
  const absl::StatusOr<GoneWorker> gone =
      environment_->janitor->End(starting.instance_id, environment_->limits.kill_exit);
  if (!gone.ok()) environment_->janitor->Discard(starting.instance_id);
  VmRecord restored = before;
  if (recorded) {
    restored.generation = starting.generation;
    CommitAnyway(std::move(restored), Durability::kLazy);
  } else {
    SetRecord(std::move(restored));
  }
  return Annotate(WithLastWords(error, gone.ok() ? *gone : GoneWorker(), starting.instance_id),
                  absl::StrCat("VM ", id_, " did not start"));
}

}  // namespace drover
