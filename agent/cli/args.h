#ifndef DROVER_AGENT_CLI_ARGS_H_
#define DROVER_AGENT_CLI_ARGS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace drover {

// One option of a command.
struct FlagSpec {
  std::string name;     // without the dashes
  char letter = 0;      // -o for --output; 0: none
  std::string value;    // what stands for its value in the help; "" for a switch
  std::string help;     // one line
  std::string choices;  // "table json": the only values; "" for any
};

// A command line taken apart.
class ParsedArgs {
 public:
  bool Has(const std::string& flag) const { return flags_.count(flag) != 0; }
  // The last value given, or `fallback`.
  std::string Get(const std::string& flag, const std::string& fallback = "") const;
  const std::vector<std::string>& GetAll(const std::string& flag) const;
  const std::vector<std::string>& positional() const { return positional_; }

 private:
  friend absl::StatusOr<ParsedArgs> ParseArgs(const std::vector<std::string>& args,
                                              const std::vector<FlagSpec>& flags);
  std::map<std::string, std::vector<std::string>> flags_;
  std::vector<std::string> positional_;
};

// Takes `--flag value`, `--flag=value`, `-f value`, switches, and `--` before what only looks like
// a flag. INVALID_ARGUMENT names what is unknown (and what comes near it), lacks its value or has
// one that is no choice.
absl::StatusOr<ParsedArgs> ParseArgs(const std::vector<std::string>& args,
                                     const std::vector<FlagSpec>& flags);

// The candidate nearest to a mistyped word; "" where none is near.
std::string Nearest(const std::string& word, const std::vector<std::string>& candidates);

// MiB of "512", "512M", "512MiB", "2G", "2GiB"; INVALID_ARGUMENT for another text or one beyond an
// int32.
absl::StatusOr<int32_t> ParseMemoryMib(const std::string& text);

// Nanoseconds of "30", "30s", "500ms", "2m"; INVALID_ARGUMENT for another text.
absl::StatusOr<int64_t> ParseDurationNanos(const std::string& text);

}  // namespace drover

#endif  // DROVER_AGENT_CLI_ARGS_H_
