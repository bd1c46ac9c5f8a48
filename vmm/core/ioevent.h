#ifndef DROVER_VMM_CORE_IOEVENT_H_
#define DROVER_VMM_CORE_IOEVENT_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "vmm/base/fd.h"

namespace drover {

// Where an ioevent listens.
struct IoAddress {
  enum class Space { kPort, kMmio } space;
  uint64_t address;
  bool operator==(const IoAddress&) const = default;
};

// What it listens for: a width of 0 is any length (no value then), 1, 2, 4 or 8 bytes; without a
// value any of that width.
struct Datamatch {
  uint32_t width = 0;
  std::optional<uint64_t> value;
  bool operator==(const Datamatch&) const = default;
};

// What every backend refuses: INVALID_ARGUMENT for no event, another width, a value without width
// or too large for it; OUT_OF_RANGE for an address that wraps or lies beyond the ports.
absl::Status CheckIoevent(const Fd& event, const IoAddress& address, const Datamatch& match);

// Whether two ioevents would both claim some write, or are the same: only one of them may exist.
// (KVM api.rst KVM_IOEVENTFD; ioeventfd_check_collision)
bool IoeventsCollide(const IoAddress& a, const Datamatch& a_match, const IoAddress& b,
                     const Datamatch& b_match);

// Whether a guest's write of `width` bytes with `value` is what the ioevent listens for.
bool IoeventMatches(const Datamatch& match, uint32_t width, uint64_t value);

}  // namespace drover

#endif  // DROVER_VMM_CORE_IOEVENT_H_
