#include "agent/vms/vm_stats.h"

#include "vmm/base/status.h"

namespace drover {
namespace {

// Reasons come from workers, too: a hostile one must not make the map grow without end.
constexpr size_t kMaxReasons = 100;

void Count(std::map<std::string, int64_t>* counts, const std::string& reason) {
  const bool room = counts->size() < kMaxReasons || counts->contains(reason);
  ++(*counts)[room ? reason : "OTHER"];
}

}  // namespace

void VmStatsCounter::OnStart(std::chrono::nanoseconds duration, const absl::Status& status) {
  MutexLock lock(&mutex_);
  if (!status.ok()) return Count(&stats_.start_failures, ReasonOf(status));
  ++stats_.starts;
  stats_.start_time += duration;
}

void VmStatsCounter::OnExit(VmState state, absl::string_view reason) {
  MutexLock lock(&mutex_);
  Count(&stats_.exits, std::string(reason));
}

void VmStatsCounter::OnAdopted(AdoptionResult result) {
  MutexLock lock(&mutex_);
  ++stats_.adoptions[result];
}

void VmStatsCounter::OnAdoptionFinished(std::chrono::nanoseconds duration) {
  MutexLock lock(&mutex_);
  stats_.adoption_time = duration;
}

VmManagerStats VmStatsCounter::stats() const {
  MutexLock lock(&mutex_);
  return stats_;
}

}  // namespace drover
