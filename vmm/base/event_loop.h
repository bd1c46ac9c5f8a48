#ifndef DROVER_VMM_BASE_EVENT_LOOP_H_
#define DROVER_VMM_BASE_EVENT_LOOP_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/fd.h"
#include "vmm/base/mutex.h"

namespace drover {

// One epoll loop: descriptors, timers and posted tasks, their callbacks run one after the other on
// the thread that is in Run(). Loop-bound: every method belongs to that thread (or to any, before
// Run starts), but for Post and Stop, which any thread may call at any time.
class EventLoop {
 public:
  using FdCallback = std::function<void(uint32_t epoll_events)>;
  using Task = std::function<void()>;
  using Clock = std::chrono::steady_clock;
  using TimerId = uint64_t;

  static absl::StatusOr<std::unique_ptr<EventLoop>> Create();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Watches `fd` (borrowed; level-triggered) for `events` (EPOLLIN...). ALREADY_EXISTS when watched
  // already.
  absl::Status Watch(int fd, uint32_t events, FdCallback callback);
  // Changes what a watched descriptor waits for.
  absl::Status Modify(int fd, uint32_t events);
  // Ends the watch; the callback is not called again, not even for events already collected. Call
  // before closing fd.
  void Unwatch(int fd);

  // Runs `task` once, not before `delay` has passed.
  TimerId RunAfter(std::chrono::nanoseconds delay, Task task);
  void CancelTimer(TimerId id);

  // Any thread: queues `task` for the loop's thread.
  void Post(Task task);
  // Any thread: makes Run return after the callback in progress.
  void Stop();

  // Handles events until Stop. May be run again afterwards.
  void Run();
  // Handles what is ready now, or waits at most `timeout` for something. For tests and single-shot
  // callers.
  void RunOnce(std::chrono::milliseconds timeout);

 private:
  struct Watched {
    uint64_t generation;
    std::shared_ptr<FdCallback> callback;
  };

  EventLoop(Fd epoll, Fd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)) {}
  void RunTasks();
  void RunTimers();
  int WaitMillis(int limit) const;
  void Dispatch(int fd, uint64_t generation, uint32_t events);

  Fd epoll_;
  Fd wake_;
  std::map<int, Watched> watched_;
  uint64_t next_generation_ = 1;
  std::map<std::pair<Clock::time_point, TimerId>, Task> timers_;
  TimerId next_timer_ = 1;

  Mutex mutex_;
  std::vector<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace drover

#endif  // DROVER_VMM_BASE_EVENT_LOOP_H_
