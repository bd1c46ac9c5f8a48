#include "vmm/base/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

// epoll's user data: the descriptor, and the watch's generation, so that an event collected for a
// watch that has ended meanwhile never reaches the next owner of the same descriptor number.
uint64_t Pack(int fd, uint64_t generation) { return generation << 32 | static_cast<uint32_t>(fd); }

}  // namespace

absl::StatusOr<std::unique_ptr<EventLoop>> EventLoop::Create() {
  Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return PosixStatus(errno, "epoll_create1", "");
  ASSIGN_OR_RETURN(Fd wake, MakeEventFd());
  struct epoll_event event = {.events = EPOLLIN, .data = {.u64 = Pack(wake.get(), 0)}};
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0)
    return PosixStatus(errno, "EPOLL_CTL_ADD", "wake");
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll), std::move(wake)));
}

EventLoop::~EventLoop() = default;

absl::Status EventLoop::Watch(int fd, uint32_t events, FdCallback callback) {
  if (watched_.contains(fd))
    return absl::AlreadyExistsError(absl::StrCat("descriptor ", fd, " is watched"));
  const uint64_t generation = next_generation_++ & 0xffffffff;
  struct epoll_event event = {.events = events, .data = {.u64 = Pack(fd, generation)}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return PosixStatus(errno, "EPOLL_CTL_ADD", absl::StrCat("descriptor ", fd));
  watched_[fd] = {generation, std::make_shared<FdCallback>(std::move(callback))};
  return absl::OkStatus();
}

absl::Status EventLoop::Modify(int fd, uint32_t events) {
  const auto it = watched_.find(fd);
  if (it == watched_.end())
    return absl::NotFoundError(absl::StrCat("descriptor ", fd, " is not watched"));
  struct epoll_event event = {.events = events, .data = {.u64 = Pack(fd, it->second.generation)}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0)
    return PosixStatus(errno, "EPOLL_CTL_MOD", absl::StrCat("descriptor ", fd));
  return absl::OkStatus();
}

void EventLoop::Unwatch(int fd) {
  if (watched_.erase(fd) == 0) return;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

EventLoop::TimerId EventLoop::RunAfter(std::chrono::nanoseconds delay, Task task) {
  const TimerId id = next_timer_++;
  timers_[{Clock::now() + delay, id}] = std::move(task);
  return id;
}

void EventLoop::CancelTimer(TimerId id) {
  for (auto it = timers_.begin(); it != timers_.end(); ++it) {
    if (it->first.second != id) continue;
    timers_.erase(it);
    return;
  }
}

void EventLoop::Post(Task task) {
  {
    MutexLock lock(&mutex_);
    tasks_.push_back(std::move(task));
  }
  eventfd_write(wake_.get(), 1);
}

void EventLoop::Stop() {
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
  }
  eventfd_write(wake_.get(), 1);
}

void EventLoop::Run() {
  for (;;) {
    {
      MutexLock lock(&mutex_);
      if (std::exchange(stopped_, false)) return;
    }
    RunOnce(std::chrono::milliseconds(-1));
  }
}

void EventLoop::RunOnce(std::chrono::milliseconds timeout) {
  std::array<struct epoll_event, 64> events;
  const int n = epoll_wait(epoll_.get(), events.data(), events.size(),
                           WaitMillis(static_cast<int>(timeout.count())));
  for (int i = 0; i < std::max(n, 0); ++i)
    Dispatch(static_cast<int>(events[i].data.u64 & 0xffffffff), events[i].data.u64 >> 32,
             events[i].events);
  RunTimers();
  RunTasks();
}

int EventLoop::WaitMillis(int limit) const {
  if (timers_.empty()) return limit;
  const auto left = timers_.begin()->first.first - Clock::now();
  const auto millis = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  const int wait = static_cast<int>(std::clamp<int64_t>(millis, 0, 3600 * 1000));
  return limit < 0 ? wait : std::min(limit, wait);
}

void EventLoop::Dispatch(int fd, uint64_t generation, uint32_t events) {
  if (fd == wake_.get()) {
    eventfd_t ignored;
    eventfd_read(wake_.get(), &ignored);
    return;
  }
  const auto it = watched_.find(fd);
  if (it == watched_.end() || it->second.generation != generation) return;
  const std::shared_ptr<FdCallback> callback = it->second.callback;  // it may unwatch itself
  (*callback)(events);
}

void EventLoop::RunTimers() {
  const auto now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    Task task = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    task();
  }
}

void EventLoop::RunTasks() {
  std::vector<Task> tasks;
  {
    MutexLock lock(&mutex_);
    tasks.swap(tasks_);
  }
  for (Task& task : tasks) task();
}

}  // namespace drover
