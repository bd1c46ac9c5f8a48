#ifndef DROVER_AGENT_VMS_EXECUTOR_H_
#define DROVER_AGENT_VMS_EXECUTOR_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "vmm/base/mutex.h"

namespace drover {

// Threads for work that blocks: as many as there are tasks at once, up to a limit; they are kept.
// Thread-safe.
class Executor {
 public:
  using Task = std::function<void()>;

  explicit Executor(size_t max_threads) : max_threads_(max_threads) {}
  ~Executor() { Shutdown(); }

  // Runs `task` on one of the threads. False, and nothing happens, once Shutdown has begun; throws
  // std::system_error, and nothing happens, where a thread is needed and cannot be made.
  bool Post(Task task);
  // Runs what is queued and waits for its end.
  void Shutdown();

 private:
  void Work();

  const size_t max_threads_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
  size_t idle_ ABSL_GUARDED_BY(mutex_) = 0;
  bool shut_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace drover

#endif  // DROVER_AGENT_VMS_EXECUTOR_H_
