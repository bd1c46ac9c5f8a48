#include "agent/helper/spare_pool.h"

#include <sys/epoll.h>

#include <algorithm>
#include <utility>

#include "agent/jail/process_identity.h"
#include "vmm/base/log.h"

namespace drover {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kIdle(20);  // after a launch: the VM starts, and needs the processors
constexpr milliseconds kFirstBackOff(100);
constexpr milliseconds kLastBackOff(30000);

}  // namespace

SparePool::~SparePool() { Drain(); }

void SparePool::Start() { ScheduleRefill(milliseconds(0)); }

void SparePool::ScheduleRefill(milliseconds delay) {
  if (timer_.has_value() || spares_.size() >= target_) return;
  timer_ = loop_->RunAfter(delay, [this] { Refill(); });
}

void SparePool::Refill() {
  timer_.reset();
  if (spares_.size() >= target_) return;
  absl::StatusOr<WorkerSlot> slot = slots_->Make();
  if (!slot.ok()) {
    if (back_off_ == milliseconds(0))
      Log(LogLevel::kWarning, "no spare worker can be made", {{"error", slot.status().ToString()}});
    BackOff();
    return;
  }
  const int pidfd = slot->pidfd.get();
  if (!loop_->Watch(pidfd, EPOLLIN, [this, pidfd](uint32_t) { OnDeath(pidfd); }).ok()) {
    slots_->Destroy(*std::move(slot));
    return BackOff();
  }
  // What fails here fails again, and is told, at the launch.
  if (expected_.has_value()) slots_->SetLimits(&*slot, *expected_).IgnoreError();
  spares_.push_back(*std::move(slot));
  // Without it the launch makes its own, or says why it cannot.
  if (store_->drafts() < spares_.size()) store_->Prepare().IgnoreError();
  ScheduleRefill(milliseconds(0));
}

void SparePool::BackOff() {
  back_off_ = std::clamp(back_off_ * 2, kFirstBackOff, kLastBackOff);
  ScheduleRefill(back_off_);
}

void SparePool::OnDeath(int pidfd) {
  const auto it = std::find_if(spares_.begin(), spares_.end(), [pidfd](const WorkerSlot& slot) {
    return slot.pidfd.get() == pidfd;
  });
  if (it == spares_.end()) return;
  if (back_off_ == milliseconds(0))
    Log(LogLevel::kWarning, "a spare worker has died", {{"pid", it->pid}});
  loop_->Unwatch(pidfd);
  slots_->Destroy(std::move(*it));
  spares_.erase(it);
  BackOff();
}

std::optional<WorkerSlot> SparePool::Take() {
  std::optional<WorkerSlot> taken;
  while (!spares_.empty() && !taken.has_value()) {
    WorkerSlot slot = std::move(spares_.front());
    spares_.pop_front();
    loop_->Unwatch(slot.pidfd.get());
    if (HasEnded(slot.pidfd.get())) {
      slots_->Destroy(std::move(slot));
    } else {
      taken = std::move(slot);
      back_off_ = milliseconds(0);
    }
  }
  ScheduleRefill(kIdle);
  return taken;
}

void SparePool::Drain() {
  target_ = 0;
  if (timer_.has_value()) loop_->CancelTimer(*timer_);
  timer_.reset();
  for (WorkerSlot& slot : spares_) {
    loop_->Unwatch(slot.pidfd.get());
    slots_->Destroy(std::move(slot));
  }
  spares_.clear();
  store_->DropDrafts();
}

}  // namespace drover
