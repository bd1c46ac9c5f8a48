#ifndef DROVER_AGENT_JAIL_UID_POOL_H_
#define DROVER_AGENT_JAIL_UID_POOL_H_

#include <cstdint>
#include <set>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace drover {

// The first and last user id that workers may have. Each is a group id, too.
struct UidRange {
  uint32_t first = 2000000000;
  uint32_t last = 2000065535;
  bool operator==(const UidRange&) const = default;
};

// "FIRST-LAST": INVALID_ARGUMENT unless 0 < FIRST <= LAST < 2^32 - 1.
absl::StatusOr<UidRange> ParseUidRange(absl::string_view text);

// Hands out user ids, each to one worker at a time, the longest unused first. Thread-compatible.
class UidPool {
 public:
  explicit UidPool(UidRange range) : range_(range), next_(range.first) {}

  // RESOURCE_EXHAUSTED (WORKER_UIDS_EXHAUSTED) when all are taken.
  absl::StatusOr<uint32_t> Take();
  // Marks a uid as taken by a worker that lives already; any value, also one out of the range.
  void Reserve(uint32_t uid) { taken_.insert(uid); }
  void Release(uint32_t uid) { taken_.erase(uid); }
  size_t taken() const { return taken_.size(); }

 private:
  const UidRange range_;
  uint32_t next_;
  std::set<uint32_t> taken_;
};

}  // namespace drover

#endif  // DROVER_AGENT_JAIL_UID_POOL_H_
