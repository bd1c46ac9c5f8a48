#ifndef DROVER_AGENT_VMS_OPERATION_GATE_H_
#define DROVER_AGENT_VMS_OPERATION_GATE_H_

#include <chrono>
#include <deque>
#include <functional>
#include <optional>
#include <utility>

#include "vmm/base/mutex.h"

namespace drover {

// One operation at a time: callers wait for their turn, background tasks are put off until it is
// free. After a caller's turn comes a task's, after a task's a caller's, so that neither starves
// the other. Not a lock: whoever has it may block. Thread-safe; must outlive every Hold and task.
class OperationGate {
 public:
  using Task = std::function<void()>;
  // Runs a task on another thread; false when it does not and never will.
  using Run = std::function<bool(Task)>;

  explicit OperationGate(Run run) : run_(std::move(run)) {}

  // The turn; it ends with the object. Move-only.
  class Hold {
   public:
    Hold(OperationGate* gate, bool task) : gate_(gate), task_(task) {}
    Hold(Hold&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)), task_(other.task_) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold() {
      if (gate_ != nullptr) gate_->Release(task_);
    }

   private:
    OperationGate* gate_;
    bool task_;
  };

  // Waits for the turn; nullopt when `deadline` comes first.
  std::optional<Hold> Acquire(std::chrono::steady_clock::time_point deadline);

  // Runs `task` in a turn of its own, as soon as there is one, without blocking the caller.
  void RunWhenFree(Task task);

 private:
  void Release(bool task);
  void Launch(Task task);

  const Run run_;
  Mutex mutex_;
  CondVar free_;
  int waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Task> deferred_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace drover

#endif  // DROVER_AGENT_VMS_OPERATION_GATE_H_
