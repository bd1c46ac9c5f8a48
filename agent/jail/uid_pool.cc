#include "agent/jail/uid_pool.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "vmm/base/status.h"

namespace drover {

absl::StatusOr<UidRange> ParseUidRange(absl::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '-');
  UidRange range;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &range.first) ||
      !absl::SimpleAtoi(parts[1], &range.last) || range.first == 0 || range.first > range.last ||
      range.last == UINT32_MAX)
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\" is no range of user ids; give FIRST-LAST, such as 2000000000-2000065535"));
  return range;
}

absl::StatusOr<uint32_t> UidPool::Take() {
  const uint64_t size = uint64_t{range_.last} - range_.first + 1;
  for (uint64_t i = 0; i < size; ++i) {
    const uint32_t uid = next_;
    next_ = uid == range_.last ? range_.first : uid + 1;
    if (taken_.insert(uid).second) return uid;
  }
  return WithReason(absl::ResourceExhaustedError(absl::StrCat(
                        "all ", size, " user ids for workers (", range_.first, "-", range_.last,
                        ") are in use; delete VMs or configure a larger range")),
                    "WORKER_UIDS_EXHAUSTED");
}

}  // namespace drover
