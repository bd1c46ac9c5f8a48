#ifndef DROVER_VMM_CORE_IRQ_LINE_H_
#define DROVER_VMM_CORE_IRQ_LINE_H_

namespace drover {

// One interrupt line of a device. Thread-safe; never blocks.
class IrqLine {
 public:
  virtual ~IrqLine() = default;
  // Level: holds the line high or low. Edge: call Pulse.
  virtual void Set(bool high) = 0;
  void Pulse() {
    Set(true);
    Set(false);
  }
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_IRQ_LINE_H_
