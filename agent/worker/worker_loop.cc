#include "agent/worker/worker_loop.h"

#include "vmm/base/status.h"

namespace drover {

absl::StatusOr<std::unique_ptr<WorkerLoop>> WorkerLoop::Create() {
  ASSIGN_OR_RETURN(std::unique_ptr<EventLoop> loop, EventLoop::Create());
  return std::unique_ptr<WorkerLoop>(new WorkerLoop(std::move(loop)));
}

WorkerLoop::~WorkerLoop() {
  loop_->Stop();
  thread_.join();
}

void WorkerLoop::PostAfter(std::chrono::nanoseconds delay, EventLoop::Task task) {
  Post(
      [this, delay, task = std::move(task)]() mutable { loop_->RunAfter(delay, std::move(task)); });
}

}  // namespace drover
