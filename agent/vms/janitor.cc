#include "agent/vms/janitor.h"

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr milliseconds kAttempt(2000);
constexpr nanoseconds kFirstRetry = milliseconds(500);
constexpr nanoseconds kLastRetry = milliseconds(30000);

}  // namespace

absl::StatusOr<GoneWorker> Janitor::Collect(const std::string& instance_id, nanoseconds limit) {
  return KillUntil(&Helper::Examine, instance_id, limit);
}

absl::StatusOr<GoneWorker> Janitor::End(const std::string& instance_id, nanoseconds limit) {
  return KillUntil(&Helper::Reap, instance_id, limit);
}

// Until `look` finds it dead.
absl::StatusOr<GoneWorker> Janitor::KillUntil(Look look, const std::string& instance_id,
                                              nanoseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  bool killed = false;
  for (nanoseconds pause = milliseconds(1);;
       pause = std::min<nanoseconds>(2 * pause, milliseconds(50))) {
    absl::StatusOr<GoneWorker> gone = (helper_->*look)(instance_id);
    if (absl::IsNotFound(gone.status())) return GoneWorker();
    if (gone.ok() || ReasonOf(gone.status()) != "WORKER_ALIVE") return gone;
    if (!killed) RETURN_IF_ERROR(helper_->Kill(instance_id));
    killed = true;
    if (std::chrono::steady_clock::now() >= deadline)
      return WithReason(absl::UnavailableError(
                            absl::StrCat("worker ", instance_id, " was killed and does not end")),
                        "WORKER_UNKILLABLE");
    std::this_thread::sleep_for(pause);
  }
}

void Janitor::Discard(const std::string& instance_id) {
  {
    MutexLock lock(&mutex_);
    if (!remaining_.insert(instance_id).second) return;
  }
  run_after_(nanoseconds(0), [=, this] { Try(instance_id, kFirstRetry); });
}

void Janitor::Try(const std::string& instance_id, nanoseconds delay) {
  const absl::StatusOr<GoneWorker> gone = End(instance_id, kAttempt);
  if (gone.ok()) {
    MutexLock lock(&mutex_);
    remaining_.erase(instance_id);
    return;
  }
  Log(LogLevel::kWarning, "a worker of no VM cannot be removed yet",
      {{"instance", instance_id}, {"error", gone.status().ToString()}});
  run_after_(delay, [=, this] { Try(instance_id, std::min(2 * delay, kLastRetry)); });
}

std::set<std::string> Janitor::remaining() const {
  MutexLock lock(&mutex_);
  return remaining_;
}

}  // namespace drover
