#ifndef DROVER_VMM_BASE_CLOCK_H_
#define DROVER_VMM_BASE_CLOCK_H_

#include <cstdint>

namespace drover {

// Where time comes from; injected, so that tests own it. Implementations are thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Nanoseconds since the Unix epoch.
  virtual int64_t UnixNanos() const = 0;
  // Nanoseconds of a clock that never goes back.
  virtual int64_t MonotonicNanos() const = 0;
};

// The system's clocks.
class SystemClock : public Clock {
 public:
  int64_t UnixNanos() const override;
  int64_t MonotonicNanos() const override;
};

}  // namespace drover

#endif  // DROVER_VMM_BASE_CLOCK_H_
