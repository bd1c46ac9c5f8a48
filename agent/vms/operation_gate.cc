#include "agent/vms/operation_gate.h"

namespace drover {

std::optional<OperationGate::Hold> OperationGate::Acquire(
    std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(&mutex_);
  while (busy_) {
    if (!free_.WaitUntil(&mutex_, deadline) && busy_) return std::nullopt;
  }
  busy_ = true;
  return std::optional<Hold>(std::in_place, this);
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
    const Hold hold(this);
    task();
  });
  if (!runs) Release();
}

void OperationGate::Release() {
  Task next;
  {
    MutexLock lock(&mutex_);
    if (deferred_.empty()) {
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
