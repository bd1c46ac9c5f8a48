#ifndef DROVER_AGENT_VMS_PAGE_TOKEN_H_
#define DROVER_AGENT_VMS_PAGE_TOKEN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace drover {

inline constexpr int32_t kDefaultPageSize = 100;
inline constexpr int32_t kMaxPageSize = 1000;

// The token of the page after the VM `last_id`.
std::string EncodePageToken(const std::string& last_id);

// The id that the page begins after, "" for the first. INVALID_ARGUMENT (INVALID_PAGE_TOKEN, field
// page_token) for what no ListVms returned.
absl::StatusOr<std::string> DecodePageToken(const std::string& token);

// The page size that is meant. INVALID_ARGUMENT where it is negative.
absl::StatusOr<int32_t> EffectivePageSize(int32_t page_size);

}  // namespace drover

#endif  // DROVER_AGENT_VMS_PAGE_TOKEN_H_
