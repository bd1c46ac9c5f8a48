#include "agent/errors/field_violations.h"

#include <cstdint>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr char kViolationsUrl[] = "drover/field_violations";
constexpr char kRetryUrl[] = "drover/retry_delay";
constexpr size_t kMaxFieldBytes = 128;
constexpr size_t kMaxDescriptionBytes = 320;
constexpr size_t kMaxAllBytes = 1400;

// At most `limit` bytes of the text, never half of a UTF-8 sequence, with "..." where it was cut.
std::string Clip(absl::string_view text, size_t limit) {
  if (text.size() <= limit) return std::string(text);
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xc0) == 0x80) --limit;
  return absl::StrCat(text.substr(0, limit), "...");
}

std::vector<FieldViolation> Bounded(const std::vector<FieldViolation>& violations) {
  std::vector<FieldViolation> out;
  size_t bytes = 0;
  for (const FieldViolation& violation : violations) {
    FieldViolation clipped = {Clip(violation.field, kMaxFieldBytes),
                              Clip(violation.description, kMaxDescriptionBytes)};
    bytes += clipped.field.size() + clipped.description.size();
    if (bytes > kMaxAllBytes) break;
    out.push_back(std::move(clipped));
  }
  if (const size_t rest = violations.size() - out.size(); rest > 0)
    out.push_back({"", absl::StrCat("and ", rest, " more")});
  return out;
}

std::string Sentence(const FieldViolation& violation) {
  if (violation.field.empty()) return violation.description;
  return absl::StrCat(violation.field, ": ", violation.description);
}

std::string Encode(const std::vector<FieldViolation>& violations) {
  return absl::StrJoin(violations, "\n", [](std::string* out, const FieldViolation& violation) {
    absl::StrAppend(out, absl::Utf8SafeCEscape(violation.field), "\t",
                    absl::Utf8SafeCEscape(violation.description));
  });
}

std::vector<FieldViolation> Decode(const std::string& text) {
  std::vector<FieldViolation> violations;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits('\t', 1));
    FieldViolation violation;
    if (absl::CUnescape(parts.first, &violation.field) &&
        absl::CUnescape(parts.second, &violation.description))
      violations.push_back(std::move(violation));
  }
  return violations;
}

}  // namespace

absl::Status InvalidFields(std::vector<FieldViolation> violations, absl::string_view reason) {
  if (violations.empty()) return absl::OkStatus();
  violations = Bounded(violations);
  absl::Status status = absl::InvalidArgumentError(
      absl::StrJoin(violations, "; ", [](std::string* out, const FieldViolation& violation) {
        absl::StrAppend(out, Sentence(violation));
      }));
  status.SetPayload(kViolationsUrl, absl::Cord(Encode(violations)));
  return WithField(WithReason(std::move(status), reason), violations[0].field);
}

std::vector<FieldViolation> FieldViolations(const absl::Status& status) {
  if (const auto payload = status.GetPayload(kViolationsUrl); payload.has_value())
    return Decode(std::string(*payload));
  const std::string field = FieldOf(status);
  if (field.empty()) return {};
  return {{Clip(field, kMaxFieldBytes), Clip(status.message(), kMaxDescriptionBytes)}};
}

absl::Status WithRetryDelay(absl::Status status, std::chrono::nanoseconds delay) {
  if (!status.ok()) status.SetPayload(kRetryUrl, absl::Cord(absl::StrCat(delay.count())));
  return status;
}

std::optional<std::chrono::nanoseconds> RetryDelay(const absl::Status& status) {
  const auto payload = status.GetPayload(kRetryUrl);
  int64_t nanos = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &nanos)) return std::nullopt;
  return std::chrono::nanoseconds(nanos);
}

std::string Quoted(absl::string_view text, size_t limit) {
  return absl::StrCat("\"", absl::Utf8SafeCEscape(Clip(text, limit)), "\"");
}

}  // namespace drover
