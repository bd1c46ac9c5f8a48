#include "devices/irq/irq_level.h"

namespace drover {

void IrqLevel::Note(bool high) {
  MutexLock lock(&mutex_);
  wanted_ = high;
  if (!high) dropped_ = driven_;
}

bool IrqLevel::Next(bool* level) {
  if (driven_ && (dropped_ || !wanted_))
    *level = false;
  else if (!driven_ && wanted_)
    *level = true;
  else
    return false;
  driven_ = *level;
  dropped_ = false;
  return true;
}

void IrqLevel::Publish() {
  if (line_ == nullptr) return;
  mutex_.Lock();
  if (!publishing_) {
    publishing_ = true;
    bool level;
    while (Next(&level)) {
      mutex_.Unlock();
      line_->Set(level);
      mutex_.Lock();
    }
    publishing_ = false;
  }
  mutex_.Unlock();
}

}  // namespace drover
