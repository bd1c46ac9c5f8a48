#ifndef DROVER_AGENT_WORKER_WORKER_CLIENT_H_
#define DROVER_AGENT_WORKER_WORKER_CLIENT_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/worker/machine_report.h"
#include "agent/worker/worker_loop.h"
#include "agent/worker/worker_proto.h"
#include "vmm/base/fd.h"

namespace drover {

class WorkerConnection;

// One connection to a worker's control socket. Every byte from there is hostile: what is malformed
// ends the connection, what nobody asked for is dropped, a flood is read slowly.
//
// Thread-safe; must not outlive its WorkerLoop. A call blocks its thread, at most `limit`, and
// returns the worker's own error, or UNAVAILABLE with the reason WORKER_UNRESPONSIVE (no answer in
// time) or WORKER_GONE (the connection has ended).
class WorkerClient {
 public:
  using Limit = std::chrono::nanoseconds;

  // Both run on the loop's thread with no lock held, must not block, and may come until the client
  // is destroyed and, once more, while it is.
  struct Callbacks {
    // The worker told of its machine, on its own or in an answer.
    std::function<void(const MachineReport&)> on_report;
    // The connection has ended. Once.
    std::function<void()> on_closed;
  };

  struct Console {
    Fd socket;  // a unix stream socket; its O_NONBLOCK is the worker's to change: use MSG_DONTWAIT
    uint64_t lost_bytes = 0;
  };

  // UNAVAILABLE (WORKER_GONE) where nobody listens, (WORKER_UNRESPONSIVE) where nobody accepts.
  static absl::StatusOr<std::unique_ptr<WorkerClient>> Connect(WorkerLoop* loop,
                                                               const std::string& path,
                                                               Callbacks callbacks);
  ~WorkerClient();

  // FAILED_PRECONDITION (WORKER_MISMATCH) when it is not the worker of `instance_id` or speaks no
  // protocol of ours.
  absl::StatusOr<WorkerGreeting> Hello(const std::string& instance_id, Limit limit);

  // Hello, Configure and Start, sent at once and answered in turn: the error of the first that
  // fails.
  absl::StatusOr<WorkerGreeting> BringUp(const std::string& instance_id,
                                         const MachineConfig& config, Limit limit);

  absl::StatusOr<MachineReport> Configure(const MachineConfig& config, Limit limit);
  absl::StatusOr<MachineReport> Start(Limit limit);
  absl::StatusOr<MachineReport> Pause(Limit limit);
  absl::StatusOr<MachineReport> Resume(Limit limit);
  absl::StatusOr<MachineReport> Reset(Limit limit);
  absl::StatusOr<MachineReport> PowerButton(Limit limit);
  absl::StatusOr<MachineReport> Stop(Limit limit);
  absl::StatusOr<Console> AttachConsole(Limit limit);

  // From now on, asks the worker each `period` whether it is there, unless it works on a call, and
  // ends the connection when it does not answer within `limit`. Once, after a greeting.
  void KeepAlive(Limit period, Limit limit);

  // Ends the connection: calls in progress return WORKER_GONE.
  void Close();
  bool closed() const;

 private:
  explicit WorkerClient(std::shared_ptr<WorkerConnection> connection);
  absl::StatusOr<MachineReport> Call(WorkerCall call, Limit limit);

  const std::shared_ptr<WorkerConnection> connection_;
};

}  // namespace drover

#endif  // DROVER_AGENT_WORKER_WORKER_CLIENT_H_
