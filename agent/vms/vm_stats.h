#ifndef DROVER_AGENT_VMS_VM_STATS_H_
#define DROVER_AGENT_VMS_VM_STATS_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "agent/vms/vm_observer.h"
#include "vmm/base/mutex.h"

namespace drover {

// What happened to VMs since the agent started.
struct VmManagerStats {
  int64_t starts = 0;                             // that succeeded
  std::map<std::string, int64_t> start_failures;  // by reason; "" where there is none
  std::chrono::nanoseconds start_time{0};         // of the starts that succeeded, in sum
  std::map<std::string, int64_t> exits;           // by state_reason
  std::map<AdoptionResult, int64_t> adoptions;
  std::chrono::nanoseconds adoption_time{0};
};

// An observer that counts. Thread-safe.
class VmStatsCounter : public VmObserver {
 public:
  void OnStart(std::chrono::nanoseconds duration, const absl::Status& status) override;
  void OnExit(VmState state, absl::string_view reason) override;
  void OnAdopted(AdoptionResult result) override;
  void OnAdoptionFinished(std::chrono::nanoseconds duration) override;

  VmManagerStats stats() const;

 private:
  mutable Mutex mutex_;
  VmManagerStats stats_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace drover

#endif  // DROVER_AGENT_VMS_VM_STATS_H_
