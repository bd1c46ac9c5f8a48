#ifndef DROVER_AGENT_WORKER_WORKER_CONNECTION_H_
#define DROVER_AGENT_WORKER_WORKER_CONNECTION_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/worker/worker_client.h"
#include "agent/worker/worker_loop.h"
#include "agent/worker/worker_proto.h"
#include "vmm/base/mutex.h"
#include "vmm/base/unix_channel.h"

namespace drover {

// The shared half of a WorkerClient: callers send and wait, the loop's thread receives. Lives until
// both have let go. Thread-safe.
class WorkerConnection : public std::enable_shared_from_this<WorkerConnection> {
 public:
  struct Answer {
    Answer() = default;
    Answer(WorkerAnswer answer, std::vector<Fd> fds)
        : answer(std::move(answer)), fds(std::move(fds)) {}
    Answer(Answer&&) = default;
    Answer& operator=(Answer&&) = default;
    WorkerAnswer answer;
    std::vector<Fd> fds;
  };

  WorkerConnection(WorkerLoop* loop, UnixChannel channel, WorkerClient::Callbacks callbacks)
      : loop_(loop), channel_(std::move(channel)), callbacks_(std::move(callbacks)) {}

  // Begins to receive.
  void Open();
  void Close(const absl::Status& why);
  bool closed() const;

  // As WorkerClient's.
  void KeepAlive(WorkerClient::Limit period, WorkerClient::Limit limit);

  // Sends without waiting; the sequence number to Await. Each one sent must be awaited.
  absl::StatusOr<uint64_t> Send(WorkerCall call, const MachineConfig& config);
  absl::StatusOr<Answer> Await(uint64_t sequence, WorkerCall call,
                               std::chrono::steady_clock::time_point deadline);

 private:
  struct Pending {
    bool done = false;
    std::shared_ptr<CondVar> waiter;
    Answer answer;
  };

  void Watch();
  void Ask(WorkerClient::Limit period, WorkerClient::Limit limit);
  bool IsBusy() const;
  bool TakeProof(uint64_t sequence);
  void OnReadable();
  // False when nothing is left to read for now.
  bool ReceiveOne();
  void Deliver(Answer answer);
  bool TakeAnswer(Answer* answer);
  void CountUnsolicited();

  WorkerLoop* const loop_;
  UnixChannel channel_;  // read by the loop's thread, written under mutex_
  const WorkerClient::Callbacks callbacks_;

  // Of the loop's thread.
  bool watched_ = false;
  int unsolicited_ = 0;
  std::chrono::steady_clock::time_point window_;

  mutable Mutex mutex_;
  std::map<uint64_t, Pending> pending_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_sequence_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);  // why; OK while open
};

}  // namespace drover

#endif  // DROVER_AGENT_WORKER_WORKER_CONNECTION_H_
