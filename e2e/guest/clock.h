// Time by TSC, and the longest gap that the loop of vCPU 0 saw.
#ifndef E2E_GUEST_CLOCK_H_
#define E2E_GUEST_CLOCK_H_

#include <stdint.h>

#include "e2e/guest/ring0.h"

namespace guest {

// TSC frequency in Hz, found at the first call: CPUID 0x15, CPUID 0x40000010, kvmclock, or the
// local APIC's timer, which hypervisors run at 1 GHz. 0 if none of these exists.
uint64_t TscHz();
const char* TscSource();

// TscHz(), or 1 GHz where it is unknown: for pacing, where cycles are taken for time.
uint64_t PaceHz();

inline uint64_t CyclesToNs(uint64_t cycles) { return MulDiv(cycles, 1000000000, PaceHz()); }
inline uint64_t MsToCycles(uint64_t ms) { return MulDiv(ms, PaceHz(), 1000); }

// A loop that samples the TSC as often as it can; a time in which it did not run is a gap.
class GapMeter {
 public:
  void Restart() { *this = GapMeter(); }

  // Called in every turn of the loop. Returns the TSC.
  uint64_t Sample() {
    const uint64_t now = Tsc();
    const uint64_t gap = now - last_;
    if (last_ != 0 && gap > longest_) Longer(now, gap);
    last_ = now;
    samples_++;
    return now;
  }

  // The time since the last sample was spent on purpose (hlt): no gap.
  void Forgive() { last_ = 0; }

  uint64_t longest() const { return longest_; }  // cycles
  uint64_t at() const { return at_; }            // TSC at the gap's end
  uint64_t samples() const { return samples_; }
  uint64_t backwards() const { return backwards_; }  // times the TSC went back

 private:
  void Longer(uint64_t now, uint64_t gap) {
    if (static_cast<int64_t>(gap) < 0) {
      backwards_++;
      return;
    }
    longest_ = gap;
    at_ = now;
  }

  uint64_t last_ = 0, longest_ = 0, at_ = 0, samples_ = 0, backwards_ = 0;
};

extern GapMeter gap_meter;

}  // namespace guest

#endif  // E2E_GUEST_CLOCK_H_
