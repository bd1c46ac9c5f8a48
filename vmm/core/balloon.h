#ifndef DROVER_VMM_CORE_BALLOON_H_
#define DROVER_VMM_CORE_BALLOON_H_

#include <cstdint>
#include <variant>

#include "absl/status/status.h"
#include "vmm/core/guest_memory.h"

namespace drover {

// What a balloon tells the VM: the guest gives a range back, takes it again, or is where it was
// asked to be.
struct BalloonInflate {
  uint64_t address;
  uint64_t size;
};
struct BalloonDeflate {
  uint64_t address;
  uint64_t size;
};
struct BalloonTargetReached {
  uint64_t bytes;
};
using BalloonEvent = std::variant<BalloonInflate, BalloonDeflate, BalloonTargetReached>;

// Inflate discards the range, which must be whole pages (INVALID_ARGUMENT) within one region
// (OUT_OF_RANGE); the others are noted.
absl::Status ApplyBalloonEvent(const BalloonEvent& event, GuestMemory* memory);

}  // namespace drover

#endif  // DROVER_VMM_CORE_BALLOON_H_
