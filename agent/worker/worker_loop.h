#ifndef DROVER_AGENT_WORKER_WORKER_LOOP_H_
#define DROVER_AGENT_WORKER_WORKER_LOOP_H_

#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "vmm/base/event_loop.h"

namespace drover {

// The thread on which everything arrives that workers send, and their ends: one event loop for all
// of them. Thread-safe. Callbacks must not block.
class WorkerLoop {
 public:
  static absl::StatusOr<std::unique_ptr<WorkerLoop>> Create();
  // Ends the thread; what was posted and has not run never does.
  ~WorkerLoop();

  // Runs `task` on the loop's thread, soon or after `delay`.
  void Post(EventLoop::Task task) { loop_->Post(std::move(task)); }
  void PostAfter(std::chrono::nanoseconds delay, EventLoop::Task task);

  // For tasks on the loop's thread.
  EventLoop* loop() { return loop_.get(); }

 private:
  explicit WorkerLoop(std::unique_ptr<EventLoop> loop)
      : loop_(std::move(loop)), thread_([this] { loop_->Run(); }) {}

  const std::unique_ptr<EventLoop> loop_;
  std::thread thread_;
};

}  // namespace drover

#endif  // DROVER_AGENT_WORKER_WORKER_LOOP_H_
