#include "agent/service/fake_vm_backend.h"

#include <errno.h>
#include <sys/socket.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/errors/field_violations.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr size_t kDefaultPageSize = 100;

absl::Status Validate(const CreateVmParams& params) {
  std::vector<FieldViolation> violations;
  if (params.id.empty()) violations.push_back({"vm_id", "is required"});
  if (params.spec.vcpus < 1)
    violations.push_back({"vm.spec.vcpus", absl::StrCat(params.spec.vcpus, " is less than 1")});
  if (params.spec.memory_mib < 2)
    violations.push_back(
        {"vm.spec.memory_mib", absl::StrCat(params.spec.memory_mib, " is less than 2")});
  if (params.spec.kernel_path.empty())
    violations.push_back({"vm.spec.boot.kernel_path", "is required"});
  return violations.empty() ? absl::OkStatus() : InvalidFields(std::move(violations));
}

void Enter(VmView* vm, VmState state) {
  vm->state = state;
  ++vm->generation;
  vm->worker.reset();
  if (state == VmState::kRunning || state == VmState::kPaused)
    vm->worker = VmWorkerView{.pid = 42, .uid = 600000, .cgroup = "/drover/i1", .start_time = 1};
}

}  // namespace

absl::Status FakeVmBackend::TakeFailure() { return std::exchange(failure_, absl::OkStatus()); }

absl::StatusOr<VmView*> FakeVmBackend::Find(const std::string& id, const std::string& etag) {
  RETURN_IF_ERROR(TakeFailure());
  const auto it = vms_.find(id);
  if (it == vms_.end())
    return WithReason(absl::NotFoundError(absl::StrCat("there is no VM \"", id, "\"")),
                      "VM_NOT_FOUND");
  if (!etag.empty() && etag != std::to_string(it->second.generation))
    return WithReason(absl::AbortedError("the VM has changed since"), "ETAG_MISMATCH");
  return &it->second;
}

absl::StatusOr<VmView> FakeVmBackend::Move(const std::string& id, const std::string& etag,
                                           const std::vector<VmState>& from, VmState to) {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(VmView * vm, Find(id, etag));
  if (std::find(from.begin(), from.end(), vm->state) == from.end())
    return WithReason(absl::FailedPreconditionError(absl::StrCat(
                          "VM \"", id, "\" cannot do this in state ", static_cast<int>(vm->state))),
                      "WRONG_STATE");
  Enter(vm, to);
  return *vm;
}

absl::StatusOr<VmView> FakeVmBackend::Create(const CreateVmParams& params) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(TakeFailure());
  RETURN_IF_ERROR(Validate(params));
  if (vms_.count(params.id) != 0)
    return WithReason(absl::AlreadyExistsError(absl::StrCat("VM \"", params.id, "\" exists")),
                      "VM_EXISTS");
  VmView vm;
  vm.id = params.id;
  vm.uid = "uid-" + params.id;
  vm.spec = params.spec;
  vm.labels = params.labels;
  vm.create_time = vm.state_change_time = 1'700'000'000'500'000'000;
  vm.generation = 1;
  if (!params.validate_only) vms_[params.id] = vm;
  return vm;
}

absl::StatusOr<VmView> FakeVmBackend::Get(const std::string& id) {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const VmView* vm, Find(id, ""));
  return *vm;
}

absl::StatusOr<VmPage> FakeVmBackend::List(int32_t page_size, const std::string& page_token) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(TakeFailure());
  const size_t limit = page_size == 0 ? kDefaultPageSize : static_cast<size_t>(page_size);
  VmPage page;
  for (auto it = vms_.upper_bound(page_token); it != vms_.end(); ++it) {
    if (page.vms.size() == limit) {
      page.next_page_token = page.vms.back().id;
      break;
    }
    page.vms.push_back(it->second);
  }
  return page;
}

absl::StatusOr<VmView> FakeVmBackend::Start(const std::string& id, const std::string& etag) {
  return Move(id, etag, {VmState::kCreated, VmState::kStopped, VmState::kFailed},
              VmState::kRunning);
}

absl::StatusOr<VmView> FakeVmBackend::Stop(const std::string& id, const std::string& etag,
                                           std::chrono::nanoseconds grace, bool force,
                                           const IsCancelled& cancelled) {
  bool hang;
  {
    MutexLock lock(&mutex_);
    last_grace_ = grace;
    last_force_ = force;
    hang = hang_stops_;
  }
  while (hang && !cancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  if (hang) return absl::CancelledError("the stop goes on");
  return Move(id, etag, {VmState::kRunning, VmState::kPaused}, VmState::kStopped);
}

absl::StatusOr<VmView> FakeVmBackend::Pause(const std::string& id, const std::string& etag) {
  return Move(id, etag, {VmState::kRunning}, VmState::kPaused);
}

absl::StatusOr<VmView> FakeVmBackend::Resume(const std::string& id, const std::string& etag) {
  return Move(id, etag, {VmState::kPaused}, VmState::kRunning);
}

absl::StatusOr<VmView> FakeVmBackend::Reboot(const std::string& id, const std::string& etag) {
  return Move(id, etag, {VmState::kRunning, VmState::kPaused}, VmState::kRunning);
}

absl::Status FakeVmBackend::Delete(const std::string& id, const std::string& etag, bool force,
                                   bool allow_missing) {
  MutexLock lock(&mutex_);
  const absl::StatusOr<VmView*> vm = Find(id, etag);
  if (absl::IsNotFound(vm.status()) && allow_missing) return absl::OkStatus();
  RETURN_IF_ERROR(vm.status());
  if ((*vm)->worker.has_value() && !force)
    return WithReason(absl::FailedPreconditionError("the VM is running"), "WRONG_STATE");
  vms_.erase(id);
  return absl::OkStatus();
}

absl::StatusOr<ConsoleAttachment> FakeVmBackend::AttachConsole(const std::string& id) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(Find(id, ""));
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return PosixStatus(errno, "socketpair", "");
  guest_console_.Reset(ends[1]);
  attached_.SignalAll();
  return ConsoleAttachment{.socket = Fd(ends[0]), .lost_bytes = lost_bytes_};
}

std::vector<VmView> FakeVmBackend::Snapshot() {
  MutexLock lock(&mutex_);
  std::vector<VmView> vms;
  for (const auto& [id, vm] : vms_) vms.push_back(vm);
  return vms;
}

void FakeVmBackend::SetPlan(const std::string& id, const VmPlan& plan) {
  MutexLock lock(&mutex_);
  vms_.at(id).plan = plan;
}

void FakeVmBackend::FailNext(absl::Status error) {
  MutexLock lock(&mutex_);
  failure_ = std::move(error);
}

Fd FakeVmBackend::TakeGuestConsole() {
  MutexLock lock(&mutex_);
  while (!guest_console_.valid()) attached_.Wait(&mutex_);
  return std::move(guest_console_);
}

void FakeVmBackend::SetLostBytes(uint64_t lost) {
  MutexLock lock(&mutex_);
  lost_bytes_ = lost;
}

void FakeVmBackend::HangStops() {
  MutexLock lock(&mutex_);
  hang_stops_ = true;
}

std::chrono::nanoseconds FakeVmBackend::last_grace() const {
  MutexLock lock(&mutex_);
  return last_grace_;
}

bool FakeVmBackend::last_force() const {
  MutexLock lock(&mutex_);
  return last_force_;
}

}  // namespace drover
