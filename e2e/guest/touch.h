// Writes pages at a rate, in the background of the command loop, with a pattern (pattern.h) that
// shows any page that was lost or is wrong.
#ifndef E2E_GUEST_TOUCH_H_
#define E2E_GUEST_TOUCH_H_

#include <stdint.h>

namespace guest {

struct TouchPlan {
  uint64_t base;    // guest-physical, a multiple of 4096
  uint64_t size;    // bytes, a multiple of 4096, not 0
  uint64_t rate;    // pages per second; 0: as fast as it can
  uint64_t seed;    // of the pattern
  uint64_t bytes;   // written per page from its start: a multiple of 8, 8..4096
  uint64_t passes;  // over the whole range; 0: until stopped
};

struct VerifyResult {
  uint64_t pages;     // checked: those written at least once
  uint64_t bad;       // of these
  uint64_t checksum;  // of all words checked
};

class Toucher {
 public:
  void Start(const TouchPlan& plan);
  void Stop() { running_ = false; }

  // Some pages, if they are due.
  void Step();

  // Compares every written page with what it must hold; prints an event line for each of the first
  // bad ones.
  VerifyResult Verify() const;

  bool running() const { return running_; }
  uint64_t writes() const { return writes_; }  // pages written since Start
  const TouchPlan& plan() const { return plan_; }

 private:
  uint64_t pages() const { return plan_.size / 4096; }
  uint64_t Due(uint64_t now);
  void RestartPace(uint64_t now);
  void WritePage();
  bool CheckPage(uint64_t address, uint64_t generation, uint64_t* checksum, bool print) const;

  TouchPlan plan_;
  bool running_;
  uint64_t writes_;
  uint64_t next_page_;    // index within the range
  uint64_t generation_;   // of the page written next
  uint64_t pace_start_;   // TSC
  uint64_t pace_writes_;  // since pace_start_
};

extern Toucher toucher;

// Sum of all 64-bit words of a range, each multiplied by its odd position: any swap or change
// shows.
uint64_t Checksum(uint64_t base, uint64_t size);

}  // namespace guest

#endif  // E2E_GUEST_TOUCH_H_
