#include "agent/vms/page_token.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "agent/admission/admission.h"
#include "agent/errors/field_violations.h"

namespace drover {
namespace {

constexpr char kPrefix[] = "vms1:";
constexpr size_t kMaxTokenBytes = 256;

}  // namespace

std::string EncodePageToken(const std::string& last_id) {
  return absl::WebSafeBase64Escape(absl::StrCat(kPrefix, last_id));
}

absl::StatusOr<std::string> DecodePageToken(const std::string& token) {
  if (token.empty()) return std::string();
  std::string text;
  absl::string_view id;
  if (token.size() <= kMaxTokenBytes && absl::WebSafeBase64Unescape(token, &text)) id = text;
  if (!absl::ConsumePrefix(&id, kPrefix) || !IsVmId(id))
    return InvalidFields(
        {{"page_token", absl::StrCat("must be a next_page_token of ListVms, not ", Quoted(token))}},
        "INVALID_PAGE_TOKEN");
  return std::string(id);
}

absl::StatusOr<int32_t> EffectivePageSize(int32_t page_size) {
  if (page_size < 0)
    return InvalidFields({{"page_size", absl::StrCat("must not be negative, is ", page_size)}});
  return page_size == 0 ? kDefaultPageSize : std::min(page_size, kMaxPageSize);
}

}  // namespace drover
