#include "agent/vms/operation_gate.h"

namespace drover {

std::optional<OperationGate::Hold> OperationGate::Acquire(
    std::chrono::steady_clock::time_point deadline) {
  {
    MutexLock lock(&mutex_);
    ++waiting_;
    while (busy_ && std::chrono::steady_clock::now() < deadline)
      (void)free_.WaitUntil(&mutex_, deadline);
    --waiting_;
    if (busy_) return std::nullopt;
    busy_ = true;
  }
  return std::optional<Hold>(std::in_place, this, false);
}

void OperationGate::RunWhenFree(Task task) {
  {
    MutexLock lock(&mutex_);
    if (busy_) {
      deferred_.push_back(std::move(task));
      return;
    }
    busy_ = true;
  }
  Launch(std::move(task));
}

void OperationGate::Launch(Task task) {
  // The task, which keeps the gate's owner alive, must outlive the turn.
  const bool runs = run_([this, task = std::move(task)] {
    const Hold hold(this, true);
    task();
  });
  if (!runs) Release(true);
}

void OperationGate::Release(bool task) {
  Task next;
  {
    MutexLock lock(&mutex_);
    if (deferred_.empty() || (task && waiting_ > 0)) {
      busy_ = false;
      free_.Signal();
      return;
    }
    next = std::move(deferred_.front());
    deferred_.pop_front();
  }
  Launch(std::move(next));
}

}  // namespace drover
