#ifndef DROVER_VMM_BASE_FAKE_CLOCK_H_
#define DROVER_VMM_BASE_FAKE_CLOCK_H_

#include <atomic>
#include <cstdint>

#include "vmm/base/clock.h"

namespace drover {

// A clock that moves only when told to. Thread-safe.
class FakeClock : public Clock {
 public:
  int64_t UnixNanos() const override { return 1700000000 * kSecond + elapsed_; }
  int64_t MonotonicNanos() const override { return elapsed_; }
  void Advance(int64_t nanos) { elapsed_ += nanos; }

 private:
  static constexpr int64_t kSecond = 1000000000;
  std::atomic<int64_t> elapsed_{0};
};

}  // namespace drover

#endif  // DROVER_VMM_BASE_FAKE_CLOCK_H_
