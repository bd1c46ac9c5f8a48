#ifndef DROVER_AGENT_VMS_FAKE_HOST_H_
#define DROVER_AGENT_VMS_FAKE_HOST_H_

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/helper/fake_helper.h"
#include "agent/registry/fake_registry.h"
#include "agent/vms/vm_manager.h"
#include "agent/vms/vm_stats.h"
#include "agent/worker/fake_worker.h"
#include "vmm/base/clock.h"
#include "vmm/base/mutex.h"

namespace drover {

// A host for VmManagers under test: a registry, a helper and workers without processes, all of
// which outlive an agent, and agents that can be killed at any step (a write to the registry or a
// call of the helper).
class FakeHost {
 public:
  FakeHost();
  ~FakeHost();

  // A new agent on this host; the one before is destroyed. Its adoption is over.
  VmManager& StartAgent();
  VmManager& agent() { return *agent_; }
  // From the agent's step number `step` (from 1) on, nothing that it does has an effect.
  void CrashAgentAt(int step);
  // The same for the next one, counted from its start.
  void CrashNextAgentAt(int step) { crash_next_at_ = step; }
  bool agent_crashed() const { return crashed_; }

  VmLimits limits;
  // Whose hypervisor can do everything, with at most 8 vCPUs.
  HostLimits host = {
      .capabilities = Capabilities(), .memory_mib = 1024, .reserved_mib = 24, .max_vms = 10};
  std::vector<std::string> withheld;  // that the next agent tells workers to do without
  VmStatsCounter stats;
  FakeRegistry registry;
  FakeHelper helper;
  // Applied to each worker before it serves.
  std::function<void(FakeWorker*)> on_new_worker;

  // The worker launched last, or of a VM.
  FakeWorker* worker();
  FakeWorker* WorkerOf(const std::string& instance_id);
  int Launches();

  static BackendCapabilities Capabilities();
  static CreateVmParams Params(const std::string& id);
  // Creates and starts; the view is running.
  VmView Run(const std::string& id);
  // Waits (long) until the VM is in the state; what it is at the end.
  VmView Await(const std::string& id, VmState state);
  static bool Eventually(const std::function<bool()>& condition);

 private:
  class CrashingRegistry;
  class CrashingHelper;

  absl::Status OnLaunch(const WorkerLaunchOptions& options, const std::string& directory);
  absl::Status Step();
  void SetRefusing(bool refuse);

  const std::string state_dir_;
  SystemClock clock_;
  std::atomic<int> steps_{0};
  std::atomic<int> crash_at_{0};
  std::atomic<bool> crashed_{false};
  int crash_next_at_ = 0;
  std::unique_ptr<Registry> crashing_registry_;
  std::unique_ptr<Helper> crashing_helper_;
  Mutex mutex_;
  std::map<std::string, std::unique_ptr<FakeWorker>> workers_ ABSL_GUARDED_BY(mutex_);
  std::string last_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<VmManager> agent_;
};

}  // namespace drover

#endif  // DROVER_AGENT_VMS_FAKE_HOST_H_
