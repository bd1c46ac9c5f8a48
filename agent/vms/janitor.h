#ifndef DROVER_AGENT_VMS_JANITOR_H_
#define DROVER_AGENT_VMS_JANITOR_H_

#include <chrono>
#include <functional>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/helper/helper.h"
#include "vmm/base/mutex.h"

namespace drover {

// Ends and removes workers that belong to no VM: of failed starts, and of starts and deletes that
// an agent did not live to finish. What cannot be removed at once is tried again. Thread-safe.
class Janitor {
 public:
  // Runs `task` on a thread that may block, after `delay`.
  using RunAfter = std::function<void(std::chrono::nanoseconds delay, std::function<void()> task)>;

  Janitor(Helper* helper, RunAfter run_after) : helper_(helper), run_after_(std::move(run_after)) {}

  // Kills the worker unless it has ended, and returns what it left, which stays where it is; tries
  // for `limit`. OK with nothing when there is no such worker.
  absl::StatusOr<GoneWorker> Collect(const std::string& instance_id,
                                     std::chrono::nanoseconds limit);

  // Kills the worker unless it has ended, reaps it, and returns its last words; tries for `limit`.
  // OK with nothing when there is no such worker.
  absl::StatusOr<GoneWorker> End(const std::string& instance_id, std::chrono::nanoseconds limit);

  // The same in the background, until it is done.
  void Discard(const std::string& instance_id);

  // What Discard has not done yet.
  std::set<std::string> remaining() const;

 private:
  using Look = absl::StatusOr<GoneWorker> (Helper::*)(const std::string& instance_id);
  absl::StatusOr<GoneWorker> KillUntil(Look look, const std::string& instance_id,
                                       std::chrono::nanoseconds limit);
  void Try(const std::string& instance_id, std::chrono::nanoseconds delay);

  Helper* const helper_;
  const RunAfter run_after_;
  mutable Mutex mutex_;
  std::set<std::string> remaining_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace drover

#endif  // DROVER_AGENT_VMS_JANITOR_H_
