#include "agent/vms/vm_manager.h"

#include <chrono>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/errors/field_violations.h"
#include "agent/vms/page_token.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr size_t kMaxThreads = 64;

absl::Status NoSuchVm(const std::string& id) {
  return WithReason(absl::NotFoundError(absl::StrCat("there is no VM ", Quoted(id))),
                    "VM_NOT_FOUND");
}

absl::Status TooManyStops(int most) {
  return WithRetryDelay(
      WithReason(absl::ResourceExhaustedError(absl::StrCat(
                     most,
                     " calls of StopVm wait for their guests already, as many as may at once; "
                     "this VM was not touched: try again soon, or stop it with force")),
                 "TOO_MANY_STOPS"),
      std::chrono::seconds(1));
}

// One of those that `count` counts.
class Share {
 public:
  explicit Share(std::atomic<int>* count) : count_(*count), number_(++count_) {}
  ~Share() { --count_; }
  int number() const { return number_; }

 private:
  std::atomic<int>& count_;
  const int number_;
};

}  // namespace

VmManager::VmManager(Options options) : host_(std::move(options.host)) {
  environment_.registry = options.registry;
  environment_.helper = options.helper;
  environment_.clock = options.clock;
  environment_.observer = options.observer != nullptr ? options.observer : &no_observer_;
  environment_.workers_directory = std::move(options.workers_directory);
  environment_.withheld = std::move(options.withheld);
  environment_.limits = options.limits;
  environment_.forget = [this](const ManagedVm* vm) { Forget(vm); };
}

absl::StatusOr<std::unique_ptr<VmManager>> VmManager::Create(Options options) {
  auto manager = std::unique_ptr<VmManager>(new VmManager(std::move(options)));
  RETURN_IF_ERROR(manager->Start());
  return manager;
}

absl::Status VmManager::Start() {
  ASSIGN_OR_RETURN(loop_, WorkerLoop::Create());
  executor_ = std::make_unique<Executor>(kMaxThreads);
  janitor_ = std::make_unique<Janitor>(
      environment_.helper, [this](std::chrono::nanoseconds delay, Executor::Task task) {
        loop_->PostAfter(delay, [this, task = std::move(task)]() mutable {
          if (!environment_.stopping) executor_->Post(std::move(task));
        });
      });
  environment_.loop = loop_.get();
  environment_.executor = executor_.get();
  environment_.janitor = janitor_.get();
  ASSIGN_OR_RETURN(std::vector<VmRecord> records, environment_.registry->Load());
  MutexLock lock(&mutex_);
  for (VmRecord& record : records) {
    const std::string id = record.id;
    vms_[id] = std::make_shared<ManagedVm>(&environment_, std::move(record));
  }
  return absl::OkStatus();
}

// Callers have returned. Hanging up on the workers releases what waits for them; nothing new
// begins.
VmManager::~VmManager() {
  environment_.stopping = true;
  if (executor_ == nullptr) return;
  for (const VmPtr& vm : All()) vm->Abandon();
  executor_->Shutdown();
  {
    std::map<std::string, VmPtr> vms;
    MutexLock lock(&mutex_);
    vms.swap(vms_);
  }
  loop_.reset();
}

absl::Status VmManager::Adopt() {
  const auto begin = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(DiscardOrphans());
  const std::vector<VmPtr> vms = All();
  for (const VmPtr& vm : vms) vm->BeginAdoption();
  int late = 0;
  for (const VmPtr& vm : vms) late += !vm->WaitAdopted(begin + environment_.limits.adoption);
  while (remaining_orphans() > 0 &&
         std::chrono::steady_clock::now() < begin + environment_.limits.adoption)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const auto duration = std::chrono::steady_clock::now() - begin;
  environment_.observer->OnAdoptionFinished(duration);
  Log(LogLevel::kInfo, "adoption has finished",
      {{"vms", static_cast<long long>(vms.size())},
       {"late", late},
       {"ms", std::chrono::duration_cast<std::chrono::milliseconds>(duration).count()}});
  return absl::OkStatus();
}

// Every worker that is on record belongs to a VM; the rest are left over from starts and deletes
// that no client was told the end of.
absl::Status VmManager::DiscardOrphans() {
  ASSIGN_OR_RETURN(const std::vector<std::string> workers, environment_.helper->ListWorkers());
  std::set<std::string> named;
  for (const VmPtr& vm : All()) named.insert(vm->instance_id());
  for (const std::string& worker : workers) {
    if (named.contains(worker)) continue;
    Log(LogLevel::kWarning, "removing a worker that belongs to no VM", {{"instance", worker}});
    environment_.janitor->Discard(worker);
  }
  return absl::OkStatus();
}

void VmManager::Forget(const ManagedVm* vm) {
  VmPtr forgotten;  // destroyed without the lock
  MutexLock lock(&mutex_);
  const auto it = vms_.find(vm->id());
  if (it == vms_.end() || it->second.get() != vm) return;
  forgotten = std::move(it->second);
  vms_.erase(it);
}

absl::StatusOr<VmManager::VmPtr> VmManager::Find(const std::string& id) const {
  MutexLock lock(&mutex_);
  const auto it = vms_.find(id);
  if (it == vms_.end()) return NoSuchVm(id);
  return it->second;
}

std::vector<VmManager::VmPtr> VmManager::All() const {
  MutexLock lock(&mutex_);
  std::vector<VmPtr> vms;
  for (const auto& [id, vm] : vms_) vms.push_back(vm);
  return vms;
}

HostAllocation VmManager::AllocationLocked() const {
  HostAllocation allocation;
  for (const auto& [id, vm] : vms_) allocation.memory_mib += vm->spec().memory_mib;
  for (const auto& [id, reservation] : reserved_) allocation.memory_mib += reservation.memory_mib;
  allocation.vms = static_cast<int32_t>(vms_.size() + reserved_.size());
  return allocation;
}

HostAllocation VmManager::Allocation() const {
  MutexLock lock(&mutex_);
  return AllocationLocked();
}

absl::StatusOr<VmView> VmManager::Get(const std::string& id) {
  ASSIGN_OR_RETURN(const VmPtr vm, Find(id));
  return vm->View();
}

absl::StatusOr<VmPage> VmManager::List(int32_t page_size, const std::string& page_token) {
  ASSIGN_OR_RETURN(const int32_t size, EffectivePageSize(page_size));
  ASSIGN_OR_RETURN(const std::string after, DecodePageToken(page_token));
  std::vector<VmPtr> vms;
  bool more = false;
  {
    MutexLock lock(&mutex_);
    auto it = vms_.upper_bound(after);
    for (; it != vms_.end() && static_cast<int32_t>(vms.size()) < size; ++it)
      vms.push_back(it->second);
    more = it != vms_.end();
  }
  VmPage page;
  for (const VmPtr& vm : vms) page.vms.push_back(vm->View());
  if (more) page.next_page_token = EncodePageToken(vms.back()->id());
  return page;
}

absl::StatusOr<VmView> VmManager::Start(const std::string& id, const std::string& etag) {
  ASSIGN_OR_RETURN(const VmPtr vm, Find(id));
  return vm->Start(etag);
}

absl::StatusOr<VmView> VmManager::Stop(const std::string& id, const std::string& etag,
                                       std::chrono::nanoseconds grace, bool force,
                                       const IsCancelled& cancelled) {
  ASSIGN_OR_RETURN(const VmPtr vm, Find(id));
  // One that does not wait for its guest is soon over, and has to work in every need.
  if (force || grace <= std::chrono::nanoseconds(0)) return vm->Stop(etag, grace, force, cancelled);
  const Share share(&waiting_stops_);
  if (share.number() > environment_.limits.waiting_stops)
    return TooManyStops(environment_.limits.waiting_stops);
  return vm->Stop(etag, grace, force, cancelled);
}

absl::StatusOr<VmView> VmManager::Pause(const std::string& id, const std::string& etag) {
  ASSIGN_OR_RETURN(const VmPtr vm, Find(id));
  return vm->Pause(etag);
}

absl::StatusOr<VmView> VmManager::Resume(const std::string& id, const std::string& etag) {
  ASSIGN_OR_RETURN(const VmPtr vm, Find(id));
  return vm->Resume(etag);
}

absl::StatusOr<VmView> VmManager::Reboot(const std::string& id, const std::string& etag) {
  ASSIGN_OR_RETURN(const VmPtr vm, Find(id));
  return vm->Reboot(etag);
}

absl::Status VmManager::Delete(const std::string& id, const std::string& etag, bool force,
                               bool allow_missing) {
  const absl::StatusOr<VmPtr> vm = Find(id);
  const absl::Status status = vm.ok() ? (*vm)->Delete(etag, force) : vm.status();
  return allow_missing && absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::StatusOr<ConsoleAttachment> VmManager::AttachConsole(const std::string& id) {
  ASSIGN_OR_RETURN(const VmPtr vm, Find(id));
  return vm->AttachConsole();
}

std::vector<VmView> VmManager::Snapshot() {
  std::vector<VmView> views;
  for (const VmPtr& vm : All()) views.push_back(vm->View());
  return views;
}

}  // namespace drover
