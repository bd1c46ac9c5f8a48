#ifndef DROVER_AGENT_VMS_VM_MANAGER_H_
#define DROVER_AGENT_VMS_VM_MANAGER_H_

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/admission/admission.h"
#include "agent/helper/helper.h"
#include "agent/registry/registry.h"
#include "agent/vms/managed_vm.h"
#include "agent/vms/vm_backend.h"
#include "agent/vms/vm_environment.h"
#include "agent/vms/vm_observer.h"
#include "vmm/base/clock.h"
#include "vmm/base/mutex.h"

namespace drover {

// All VMs of this host. Thread-safe; calls block their thread, and must have returned before it is
// destroyed. Its end leaves every worker running for the next agent.
//
// Lock order: a VM's turn, then mutex_, then a VM's own mutex.
class VmManager : public VmBackend {
 public:
  struct Options {
    Registry* registry = nullptr;  // these four outlive the manager
    Helper* helper = nullptr;
    const Clock* clock = nullptr;
    VmObserver* observer = nullptr;  // may be null
    std::string workers_directory;   // STATE_DIR/workers
    HostLimits host;
    std::vector<std::string> withheld;  // capabilities that every worker does without
    VmLimits limits;
  };

  // Loads the registry: the registry's errors.
  static absl::StatusOr<std::unique_ptr<VmManager>> Create(Options options);
  ~VmManager() override;

  // Finds the workers of an earlier agent, and removes those that no VM names. Once, before the
  // first client is served. Takes at most limits.adoption or so: VMs whose workers have not
  // answered by then are `unknown`, and tried again for ever. Fails when the helper cannot tell
  // which workers there are.
  absl::Status Adopt();

  absl::StatusOr<VmView> Create(const CreateVmParams& params) override;
  absl::StatusOr<VmView> Get(const std::string& id) override;
  absl::StatusOr<VmPage> List(int32_t page_size, const std::string& page_token) override;
  absl::StatusOr<VmView> Start(const std::string& id, const std::string& etag) override;
  absl::StatusOr<VmView> Stop(const std::string& id, const std::string& etag,
                              std::chrono::nanoseconds grace, bool force,
                              const IsCancelled& cancelled) override;
  // For a caller that waits to the end.
  absl::StatusOr<VmView> Stop(const std::string& id, const std::string& etag,
                              std::chrono::nanoseconds grace, bool force) {
    return Stop(id, etag, grace, force, nullptr);
  }
  absl::StatusOr<VmView> Pause(const std::string& id, const std::string& etag) override;
  absl::StatusOr<VmView> Resume(const std::string& id, const std::string& etag) override;
  absl::StatusOr<VmView> Reboot(const std::string& id, const std::string& etag) override;
  absl::Status Delete(const std::string& id, const std::string& etag, bool force,
                      bool allow_missing) override;
  absl::StatusOr<ConsoleAttachment> AttachConsole(const std::string& id) override;
  std::vector<VmView> Snapshot() override;

  // What the VMs that are not deleted have been promised.
  HostAllocation Allocation() const;
  // Workers of no VM that are still to be removed.
  size_t remaining_orphans() const { return environment_.janitor->remaining().size(); }

 private:
  using VmPtr = std::shared_ptr<ManagedVm>;
  // A create under way: its id and its share of the host are taken.
  struct Reservation {
    std::string request_id;
    int64_t memory_mib;
  };

  explicit VmManager(Options options);
  absl::Status Start();
  void Forget(const ManagedVm* vm);
  absl::StatusOr<VmPtr> Find(const std::string& id) const;
  std::vector<VmPtr> All() const;

  absl::Status CheckFiles(const VmSpec& spec);
  absl::StatusOr<VmPtr> FindRepeated(const CreateVmParams& params);
  absl::StatusOr<VmPtr> Reserve(const CreateVmParams& params);
  absl::StatusOr<VmView> Record(const CreateVmParams& params, const VmPlan& plan);
  HostAllocation AllocationLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  VmPtr ByRequest(const std::string& request_id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool RequestUnderWay(const std::string& request_id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status DiscardOrphans();

  const HostLimits host_;
  VmObserver no_observer_;
  VmEnvironment environment_;
  std::unique_ptr<WorkerLoop> loop_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Janitor> janitor_;
  std::atomic<int> waiting_stops_{0};

  mutable Mutex mutex_;
  CondVar reserved_changed_;
  std::map<std::string, VmPtr> vms_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Reservation> reserved_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace drover

#endif  // DROVER_AGENT_VMS_VM_MANAGER_H_
