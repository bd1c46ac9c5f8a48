#include "vmm/base/clock.h"

#include <time.h>

namespace drover {
namespace {

int64_t Nanos(clockid_t id) {
  struct timespec now;
  clock_gettime(id, &now);
  return now.tv_sec * int64_t{1000000000} + now.tv_nsec;
}

}  // namespace

int64_t SystemClock::UnixNanos() const { return Nanos(CLOCK_REALTIME); }
int64_t SystemClock::MonotonicNanos() const { return Nanos(CLOCK_MONOTONIC); }

}  // namespace drover
