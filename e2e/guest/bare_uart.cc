#include "e2e/guest/bare_uart.h"

namespace drover {
namespace {

// PC16550D data sheet, register summary.
constexpr uint16_t kData = 0;
constexpr uint16_t kInterruptEnable = 1;
constexpr uint16_t kInterruptId = 2;
constexpr uint16_t kLineStatus = 5;
constexpr uint8_t kReceiveInterrupt = 0x01;
constexpr uint8_t kTransmitterIdle = 0x60;
constexpr uint8_t kDataReady = 0x01;
constexpr uint8_t kIdDataReady = 0xc4;
constexpr uint8_t kIdNone = 0xc1;

}  // namespace

void BareUart::UpdateIrq() {
  const bool level = (interrupt_enable_ & kReceiveInterrupt) && !input_.empty();
  if (level == level_) return;
  level_ = level;
  set_irq_(level);
}

uint8_t BareUart::Read(uint16_t offset) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (offset == kLineStatus) return kTransmitterIdle | (input_.empty() ? 0 : kDataReady);
  if (offset == kInterruptEnable) return interrupt_enable_;
  if (offset == kInterruptId) return level_ ? kIdDataReady : kIdNone;
  if (offset != kData || input_.empty()) return 0;
  const char c = input_.front();
  input_.pop_front();
  UpdateIrq();
  return c;
}

void BareUart::Write(uint16_t offset, uint8_t value) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (offset == kData) output_(static_cast<char>(value));
  if (offset != kInterruptEnable) return;
  interrupt_enable_ = value;
  UpdateIrq();
}

void BareUart::Feed(const char* bytes, size_t count) {
  std::lock_guard<std::mutex> lock(mutex_);
  input_.insert(input_.end(), bytes, bytes + count);
  UpdateIrq();
}

}  // namespace drover
