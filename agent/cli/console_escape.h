#ifndef DROVER_AGENT_CLI_CONSOLE_ESCAPE_H_
#define DROVER_AGENT_CLI_CONSOLE_ESCAPE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace drover {

// Finds what a person types to leave a console: Ctrl-] anywhere, or "~." at the beginning of a
// line, where "~~" is one "~" for the guest. Thread-compatible.
class ConsoleEscape {
 public:
  // With `enabled` false everything goes to the guest.
  explicit ConsoleEscape(bool enabled) : enabled_(enabled) {}

  // What of `typed` goes to the guest. After an escape nothing does.
  std::string Filter(absl::string_view typed);
  bool left() const { return left_; }

 private:
  void Take(char c, std::string* out);

  const bool enabled_;
  bool left_ = false;
  bool line_start_ = true;
  bool tilde_ = false;  // held back at the beginning of a line
};

}  // namespace drover

#endif  // DROVER_AGENT_CLI_CONSOLE_ESCAPE_H_
