#include "agent/vms/executor.h"

#include <utility>

namespace drover {

bool Executor::Post(Task task) {
  {
    MutexLock lock(&mutex_);
    if (shut_) return false;
    if (tasks_.size() >= idle_ && threads_.size() < max_threads_)
      threads_.emplace_back([this] { Work(); });
    tasks_.push_back(std::move(task));
  }
  changed_.Signal();
  return true;
}

void Executor::Work() {
  for (;;) {
    Task task;
    {
      MutexLock lock(&mutex_);
      ++idle_;
      while (tasks_.empty() && !shut_) changed_.Wait(&mutex_);
      --idle_;
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

void Executor::Shutdown() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(&mutex_);
    shut_ = true;
    threads.swap(threads_);
    changed_.SignalAll();
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace drover
