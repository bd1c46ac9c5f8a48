// The transmit and receive side of a 16550, for bare_kvm.
#ifndef E2E_GUEST_BARE_UART_H_
#define E2E_GUEST_BARE_UART_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>

namespace drover {

// Thread-safe: vCPU threads read and write registers while another thread feeds input.
class BareUart {
 public:
  using Output = std::function<void(char)>;
  using SetIrq = std::function<void(bool level)>;

  // Both are called with the lock held, by the thread that causes them.
  BareUart(Output output, SetIrq set_irq)
      : output_(std::move(output)), set_irq_(std::move(set_irq)) {}

  // `offset`: 0..7 from the base port.
  uint8_t Read(uint16_t offset);
  void Write(uint16_t offset, uint8_t value);

  void Feed(const char* bytes, size_t count);

 private:
  void UpdateIrq();

  const Output output_;
  const SetIrq set_irq_;
  std::mutex mutex_;
  std::deque<char> input_;
  uint8_t interrupt_enable_ = 0;
  bool level_ = false;
};

}  // namespace drover

#endif  // E2E_GUEST_BARE_UART_H_
