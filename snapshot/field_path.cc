#include "snapshot/field_path.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"

namespace drover {
namespace {

constexpr size_t kShown = 64;  // bytes of a text that is wrong

bool IsControl(char c) { return absl::ascii_iscntrl(static_cast<unsigned char>(c)); }

std::string Shown(const std::string& value) {
  return absl::StrCat("'", absl::CHexEscape(value.substr(0, kShown)),
                      value.size() > kShown ? "...' of " : "' of ", value.size(), " bytes");
}

}  // namespace

std::string FieldReader::Text(absl::string_view name, const std::string& value, size_t most,
                              bool needed) {
  if (value.size() > most || (needed && value.empty()) || std::ranges::any_of(value, IsControl))
    Problem(name, Shown(value),
            absl::StrCat(needed ? 1 : 0, " to ", most, " bytes without control characters"));
  return value;
}

std::string FieldReader::Name(absl::string_view name, const std::string& value, size_t most,
                              absl::string_view others) {
  const auto fits = [&](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           absl::StrContains(others, absl::string_view(&c, 1));
  };
  if (value.empty() || value.size() > most || !std::ranges::all_of(value, fits))
    Problem(name, Shown(value),
            absl::StrCat("1 to ", most, " letters, digits, or of '", others, "'"));
  return value;
}

}  // namespace drover
