#ifndef DROVER_DEVICES_IRQ_FAKE_IRQ_LINE_H_
#define DROVER_DEVICES_IRQ_FAKE_IRQ_LINE_H_

#include <atomic>

#include "vmm/core/irq_line.h"

namespace drover {

// An interrupt line that remembers its level and counts its rising edges. Thread-safe.
class FakeIrqLine : public IrqLine {
 public:
  void Set(bool high) override {
    if (high && !high_.exchange(true)) ++edges_;
    if (!high) high_ = false;
  }
  bool high() const { return high_; }
  int edges() const { return edges_; }

 private:
  std::atomic<bool> high_{false};
  std::atomic<int> edges_{0};
};

}  // namespace drover

#endif  // DROVER_DEVICES_IRQ_FAKE_IRQ_LINE_H_
