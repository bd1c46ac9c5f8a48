#ifndef DROVER_AGENT_VMS_WORKER_SESSION_H_
#define DROVER_AGENT_VMS_WORKER_SESSION_H_

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "agent/helper/helper.h"
#include "agent/worker/machine_report.h"
#include "agent/worker/worker_client.h"
#include "agent/worker/worker_loop.h"
#include "vmm/base/mutex.h"

namespace drover {

// One living worker as its VM holds it: the process (pidfd), the connection, and what it said last.
// Owned by a ManagedVm; thread-safe; must not outlive the WorkerLoop.
class WorkerSession : public std::enable_shared_from_this<WorkerSession> {
 public:
  using Limit = std::chrono::nanoseconds;
  // Runs on the loop's thread when the worker ended, told of its machine, or hung up.
  using OnChange = std::function<void()>;

  WorkerSession(WorkerLoop* loop, LaunchedWorker worker, std::string socket_path,
                OnChange on_change);
  ~WorkerSession() { Close(); }

  // Begins to watch the process. Once, before anything else.
  void Watch();

  // Connects, for the first time or anew, and makes sure who answers. Errors as WorkerClient's.
  absl::StatusOr<WorkerGreeting> Join(Limit limit);
  // Connects, builds the machine and runs it.
  absl::StatusOr<WorkerGreeting> BringUp(const MachineConfig& config, Limit limit);

  // Lets the present connection end when the worker does not answer (WorkerClient::KeepAlive).
  void KeepAlive(Limit period, Limit limit);

  // Null before the first connection.
  std::shared_ptr<WorkerClient> client() const;
  bool connected() const;
  bool exited() const;
  // False when it still lives after `limit`.
  bool WaitExit(Limit limit);
  std::optional<MachineReport> latest() const;
  // The report of the machine's end, when there was one, and since when.
  std::optional<MachineReport> ending() const;
  std::optional<std::chrono::steady_clock::time_point> ending_since() const;

  const WorkerIdentity& identity() const { return identity_; }
  std::string version() const;

  // Hangs up and watches no more; on_change is not called again, but for a call in progress.
  void Close();

 private:
  absl::Status Connect();
  void Keep(const WorkerGreeting& greeting);
  void OnReport(const MachineReport& report);
  void OnExit();

  WorkerLoop* const loop_;
  const WorkerIdentity identity_;
  const std::shared_ptr<Fd> pidfd_;
  const std::string socket_path_;
  const OnChange on_change_;

  mutable Mutex mutex_;
  CondVar exit_;
  bool exited_ ABSL_GUARDED_BY(mutex_) = false;
  bool joined_ ABSL_GUARDED_BY(mutex_) = false;  // the worker has greeted on client_
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<WorkerClient> client_ ABSL_GUARDED_BY(mutex_);
  std::optional<MachineReport> latest_ ABSL_GUARDED_BY(mutex_);
  std::optional<std::chrono::steady_clock::time_point> ending_since_ ABSL_GUARDED_BY(mutex_);
  std::string version_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace drover

#endif  // DROVER_AGENT_VMS_WORKER_SESSION_H_
