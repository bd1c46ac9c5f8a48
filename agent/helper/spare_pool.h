#ifndef DROVER_AGENT_HELPER_SPARE_POOL_H_
#define DROVER_AGENT_HELPER_SPARE_POOL_H_

#include <chrono>
#include <cstddef>
#include <deque>
#include <optional>

#include "agent/helper/instance_store.h"
#include "agent/helper/worker_slots.h"
#include "vmm/base/event_loop.h"

namespace drover {

// Jailed workers that wait for a launch, so that a start costs no clone and no exec, and as many
// drafts of instances. Their limits are already those of the guest before, as the next is often of
// the same size: on some hosts setting them takes longer than the rest of a launch. Spares are made
// one at a time when the loop is idle, and again when one is taken or dies; after a failure ever
// more slowly. Loop-bound.
class SparePool {
 public:
  SparePool(EventLoop* loop, WorkerSlots* slots, InstanceStore* store, size_t target)
      : loop_(loop), slots_(slots), store_(store), target_(target) {}
  ~SparePool();

  // Begins to fill the pool.
  void Start();
  // A living spare, if there is one.
  std::optional<WorkerSlot> Take();
  // What the spares to come get as their limits. A launch sets its own where they are others.
  void Expect(const CgroupLimits& limits) { expected_ = limits; }
  // Destroys all spares and makes no more.
  void Drain();
  size_t size() const { return spares_.size(); }

 private:
  void ScheduleRefill(std::chrono::milliseconds delay);
  void Refill();
  void OnDeath(int pidfd);
  void BackOff();

  EventLoop* const loop_;
  WorkerSlots* const slots_;
  InstanceStore* const store_;
  size_t target_;
  std::optional<CgroupLimits> expected_;
  std::deque<WorkerSlot> spares_;
  std::optional<EventLoop::TimerId> timer_;
  std::chrono::milliseconds back_off_{0};
};

}  // namespace drover

#endif  // DROVER_AGENT_HELPER_SPARE_POOL_H_
