#ifndef DROVER_AGENT_HELPER_FAKE_HELPER_H_
#define DROVER_AGENT_HELPER_FAKE_HELPER_H_

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/helper/helper.h"
#include "vmm/base/mutex.h"

namespace drover {

// A helper without privilege or processes, for tests. A launch makes STATE_DIR/workers/INSTANCE and
// calls the test's function, which may serve control.sock there; the worker's pidfd is an eventfd,
// readable once the test ends the worker. It outlives agents under test, as real workers do.
// Thread-safe; the test's functions run on the caller's thread with no lock held.
class FakeHelper : public Helper {
 public:
  // `directory` is the worker's own. An error fails the launch, which then leaves nothing.
  using OnLaunch =
      std::function<absl::Status(const WorkerLaunchOptions& options, const std::string& directory)>;
  using OnKill = std::function<void(const std::string& instance_id)>;

  explicit FakeHelper(std::string state_dir) : state_dir_(std::move(state_dir)) {}

  // What the test scripts.
  void SetOnLaunch(OnLaunch on_launch);
  // Called at Kill, before the worker is marked as ended.
  void SetOnKill(OnKill on_kill);
  // Each following call of `method` ("Launch", "CheckFile", ...) fails with `error`, until OK is
  // set.
  void SetError(const std::string& method, absl::Status error);
  // CheckFile and Launch fail for this path; CheckFile sets the field.
  void SetFileError(const std::string& path, absl::Status error);
  void SetProbe(HelperProbe probe);
  // Every call fails UNAVAILABLE (HELPER_GONE) while the helper is gone.
  void SetGone(bool gone);
  // The worker ends and leaves these last words. Nothing happens if it has ended already.
  void EndWorker(const std::string& instance_id, const std::string& last_words,
                 std::optional<ProcessEnd> end = std::nullopt);
  // A worker of an earlier agent, launched without a call.
  absl::Status AddWorker(const std::string& instance_id);

  // What the test sees: "Launch INSTANCE", "CheckFile PATH", "Probe", ... in order.
  std::vector<std::string> calls() const;
  std::set<std::string> living() const;
  // Launched and not reaped.
  std::set<std::string> instances() const;
  std::string DirectoryOf(const std::string& instance_id) const;

  absl::Status CheckFile(const std::string& path, const std::string& field) override;
  absl::StatusOr<LaunchedWorker> Launch(const WorkerLaunchOptions& options) override;
  absl::StatusOr<LaunchedWorker> Adopt(const std::string& instance_id) override;
  absl::Status Kill(const std::string& instance_id) override;
  absl::StatusOr<GoneWorker> Examine(const std::string& instance_id) override;
  absl::StatusOr<GoneWorker> Reap(const std::string& instance_id) override;
  absl::StatusOr<HelperProbe> Probe() override;
  absl::StatusOr<std::vector<std::string>> ListWorkers() override;

 private:
  struct Worker {
    WorkerIdentity identity;
    Fd ended;  // the eventfd behind every pidfd given out
    bool alive = true;
    GoneWorker gone;  // once it is not alive
  };

  absl::StatusOr<Worker*> FindDead(const std::string& instance_id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Records the call; the error scripted for it.
  absl::Status Begin(const std::string& method, const std::string& argument)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status FileError(const std::string& path, const std::string& field) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<LaunchedWorker> Add(const std::string& instance_id) ABSL_LOCKS_EXCLUDED(mutex_);
  static absl::StatusOr<LaunchedWorker> View(const Worker& worker);

  const std::string state_dir_;
  mutable Mutex mutex_;
  OnLaunch on_launch_ ABSL_GUARDED_BY(mutex_);
  OnKill on_kill_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Status> errors_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Status> file_errors_ ABSL_GUARDED_BY(mutex_);
  HelperProbe probe_ ABSL_GUARDED_BY(mutex_);
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::string> calls_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Worker> workers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace drover

#endif  // DROVER_AGENT_HELPER_FAKE_HELPER_H_
