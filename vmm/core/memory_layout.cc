#include "vmm/core/memory_layout.h"

#include "absl/strings/str_format.h"

namespace drover::layout {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMinimum = 2 << 20;

}  // namespace

absl::StatusOr<std::vector<GuestRange>> RamRanges(uint64_t memory_bytes, uint64_t physical_limit) {
  if (memory_bytes < kMinimum || memory_bytes % kPage != 0)
    return absl::InvalidArgumentError(absl::StrFormat(
        "%u bytes of guest memory: must be whole pages, at least 2 MiB", memory_bytes));
  if (memory_bytes <= kMmioGapStart) return std::vector<GuestRange>{{0, memory_bytes}};
  const uint64_t high = memory_bytes - kMmioGapStart;
  if (physical_limit < kMmioGapEnd || high > physical_limit - kMmioGapEnd)
    return absl::InvalidArgumentError(
        absl::StrFormat("%u bytes of guest memory: the guest's physical addresses end at %#x",
                        memory_bytes, physical_limit));
  return std::vector<GuestRange>{{0, kMmioGapStart}, {kMmioGapEnd, high}};
}

}  // namespace drover::layout
