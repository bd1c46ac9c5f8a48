#include "agent/cli/console_escape.h"

#include <utility>

namespace drover {
namespace {

constexpr char kControlBracket = 0x1d;

}  // namespace

void ConsoleEscape::Take(char c, std::string* out) {
  const bool after_tilde = std::exchange(tilde_, false);
  if (c == kControlBracket || (after_tilde && c == '.')) {
    left_ = true;
    return;
  }
  if (c == '~' && line_start_ && !after_tilde) {
    tilde_ = true;
    return;
  }
  if (after_tilde && c != '~') out->push_back('~');
  out->push_back(c);
  line_start_ = c == '\r' || c == '\n';
}

std::string ConsoleEscape::Filter(absl::string_view typed) {
  if (!enabled_) return std::string(typed);
  std::string out;
  for (const char c : typed) {
    if (left_) break;
    Take(c, &out);
  }
  return out;
}

}  // namespace drover
