#ifndef DROVER_AGENT_ERRORS_FIELD_VIOLATIONS_H_
#define DROVER_AGENT_ERRORS_FIELD_VIOLATIONS_H_

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace drover {

// One field of a request that is at fault: its path ("vm.spec.vcpus"), and what it should be.
struct FieldViolation {
  std::string field;
  std::string description;
  bool operator==(const FieldViolation&) const = default;
};

// INVALID_ARGUMENT that names every violation, in its message and for FieldViolations; OK when
// there is none. The whole error stays below 4 KiB however long the violations are (gRPC carries it
// in 8 KiB of trailers): texts are cut, and what does not fit is counted in a last violation.
absl::Status InvalidFields(std::vector<FieldViolation> violations,
                           absl::string_view reason = "INVALID_FIELDS");

// The violations that InvalidFields put in, or the single one of WithField; empty where there is
// none. FieldOf gives the first.
std::vector<FieldViolation> FieldViolations(const absl::Status& status);

// When a client may try again (for RetryInfo). OK stays OK.
absl::Status WithRetryDelay(absl::Status status, std::chrono::nanoseconds delay);
std::optional<std::chrono::nanoseconds> RetryDelay(const absl::Status& status);

// A client's text for an error message: in quotes, control characters escaped, cut after about
// `limit` bytes.
std::string Quoted(absl::string_view text, size_t limit = 64);

}  // namespace drover

#endif  // DROVER_AGENT_ERRORS_FIELD_VIOLATIONS_H_
