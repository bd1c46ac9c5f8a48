#ifndef DROVER_DEVICES_IRQ_IRQ_LEVEL_H_
#define DROVER_DEVICES_IRQ_IRQ_LEVEL_H_

#include "absl/base/thread_annotations.h"
#include "vmm/base/mutex.h"
#include "vmm/core/irq_line.h"

namespace drover {

// Drives an IrqLine from a device whose lock must not be held across it: Note the level under the
// device's lock, Publish after releasing it. The line ends at the level noted last, whichever
// thread publishes, and every high-low-high is seen as such, so that an edge-triggered input misses
// none. Thread-safe. Lock order: a device's lock, then this one's.
class IrqLevel {
 public:
  // `line` is borrowed; nullptr: no line. It is low.
  explicit IrqLevel(IrqLine* line) : line_(line) {}

  void Note(bool high);
  // Drives the line until it is as noted; returns at once while another thread does that.
  void Publish();

 private:
  // The level to drive next, if any.
  bool Next(bool* level) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  IrqLine* const line_;
  Mutex mutex_;
  bool wanted_ ABSL_GUARDED_BY(mutex_) = false;
  bool driven_ ABSL_GUARDED_BY(mutex_) = false;
  bool dropped_ ABSL_GUARDED_BY(mutex_) = false;  // went low since it was driven high
  bool publishing_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace drover

#endif  // DROVER_DEVICES_IRQ_IRQ_LEVEL_H_
