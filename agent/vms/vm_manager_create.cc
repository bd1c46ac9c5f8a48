#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/errors/field_violations.h"
#include "agent/vms/uuid.h"
#include "agent/vms/vm_manager.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

VmRecord NewRecord(const CreateVmParams& params, const VmPlan& plan, int64_t now) {
  VmRecord record;
  record.id = params.id;
  record.uid = NewUuid();
  record.spec = params.spec;
  record.plan = plan;
  record.labels = params.labels;
  record.request_id = params.request_id;
  record.create_time = now;
  record.state_change_time = now;
  return record;
}

// What a create would make.
VmView Preview(const CreateVmParams& params, const VmPlan& plan) {
  VmView view;
  view.id = params.id;
  view.spec = params.spec;
  view.plan = plan;
  view.labels = params.labels;
  return view;
}

void LogFallbacks(const std::string& id, const VmPlan& plan) {
  for (const Fallback& fallback : plan.fallbacks)
    Log(LogLevel::kInfo, "the host cannot serve a VM's preference",
        {{"vm", id},
         {"field", fallback.field},
         {"wanted", fallback.wanted},
         {"taken", fallback.taken},
         {"capability", fallback.capability},
         {"reason", fallback.reason}});
}

absl::Status Exists(const std::string& id) {
  return WithField(
      WithReason(absl::AlreadyExistsError(absl::StrCat(
                     "there is a VM ", id, " already; delete it, or choose another id")),
                 "VM_EXISTS"),
      "vm_id");
}

absl::Status Reused(const std::string& request_id, const std::string& id) {
  return InvalidFields({{"request_id", absl::StrCat(Quoted(request_id), " made VM ", id,
                                                    " from other parameters; use a new one")}},
                       "REQUEST_ID_REUSED");
}

bool IsAboutFile(const absl::Status& status) { return absl::StartsWith(ReasonOf(status), "FILE_"); }

}  // namespace

// Both files, so that both are named. A file that is at fault is an invalid argument; a helper that
// does not answer is not.
absl::Status VmManager::CheckFiles(const VmSpec& spec) {
  std::vector<FieldViolation> violations;
  std::string reason;
  const std::pair<const std::string&, const char*> files[] = {
      {spec.kernel_path, "vm.spec.boot.kernel_path"},
      {spec.initrd_path, "vm.spec.boot.initrd_path"}};
  for (const auto& [path, field] : files) {
    if (path.empty()) continue;
    const absl::Status status = environment_.helper->CheckFile(path, field);
    if (status.ok()) continue;
    if (!IsAboutFile(status)) return status;
    if (reason.empty()) reason = ReasonOf(status);
    violations.push_back({field, std::string(status.message())});
  }
  return InvalidFields(std::move(violations), reason);
}

VmManager::VmPtr VmManager::ByRequest(const std::string& request_id) const {
  if (request_id.empty()) return nullptr;
  for (const auto& [id, vm] : vms_)
    if (vm->request_id() == request_id) return vm;
  return nullptr;
}

bool VmManager::RequestUnderWay(const std::string& request_id) const {
  if (request_id.empty()) return false;
  for (const auto& [id, reservation] : reserved_)
    if (reservation.request_id == request_id) return true;
  return false;
}

// The VM that an earlier create with this request_id made; null when there is none. Waits for one
// that is under way.
absl::StatusOr<VmManager::VmPtr> VmManager::FindRepeated(const CreateVmParams& params) {
  const auto deadline = std::chrono::steady_clock::now() + environment_.limits.operation_wait;
  VmPtr vm;
  {
    MutexLock lock(&mutex_);
    while (RequestUnderWay(params.request_id))
      if (!reserved_changed_.WaitUntil(&mutex_, deadline) &&
          std::chrono::steady_clock::now() >= deadline)
        return WithReason(absl::AbortedError("the same create is under way; try again"),
                          "OPERATION_IN_PROGRESS");
    vm = ByRequest(params.request_id);
  }
  if (vm == nullptr) return vm;
  if (vm->id() != params.id || vm->spec() != params.spec || vm->View().labels != params.labels)
    return Reused(params.request_id, vm->id());
  return vm;
}

// Takes the id and the room for a VM until Record; or the VM that a repeated create made meanwhile.
absl::StatusOr<VmManager::VmPtr> VmManager::Reserve(const CreateVmParams& params) {
  for (;;) {
    ASSIGN_OR_RETURN(VmPtr repeated, FindRepeated(params));
    if (repeated != nullptr) return repeated;
    MutexLock lock(&mutex_);
    if (RequestUnderWay(params.request_id) || ByRequest(params.request_id) != nullptr) continue;
    if (vms_.contains(params.id) || reserved_.contains(params.id)) return Exists(params.id);
    RETURN_IF_ERROR(CheckCapacity(params.spec, AllocationLocked(), host_));
    if (!params.validate_only) reserved_[params.id] = {params.request_id, params.spec.memory_mib};
    return VmPtr();
  }
}

absl::StatusOr<VmView> VmManager::Record(const CreateVmParams& params, const VmPlan& plan) {
  const VmRecord record = NewRecord(params, plan, environment_.clock->UnixNanos());
  const absl::Status status = environment_.registry->Put(record, Durability::kDurable);
  MutexLock lock(&mutex_);
  reserved_.erase(params.id);
  reserved_changed_.SignalAll();
  RETURN_IF_ERROR(status);
  const VmPtr vm = std::make_shared<ManagedVm>(&environment_, record);
  vms_[params.id] = vm;
  return vm->View();
}

absl::StatusOr<VmView> VmManager::Create(const CreateVmParams& params) {
  ASSIGN_OR_RETURN(const VmPlan plan, ResolveCreate(params, host_));
  ASSIGN_OR_RETURN(const VmPtr repeated, FindRepeated(params));
  if (repeated != nullptr) return repeated->View();
  RETURN_IF_ERROR(CheckFiles(params.spec));
  ASSIGN_OR_RETURN(const VmPtr raced, Reserve(params));
  if (raced != nullptr) return raced->View();
  if (params.validate_only) return Preview(params, plan);
  LogFallbacks(params.id, plan);
  return Record(params, plan);
}

}  // namespace drover
