#include "agent/cli/args.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr size_t kNearEnough = 2;  // edits

size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

absl::StatusOr<const FlagSpec*> FindFlag(const std::string& word,
                                         const std::vector<FlagSpec>& flags) {
  std::vector<std::string> names;
  for (const FlagSpec& flag : flags) {
    if (word == "--" + flag.name) return &flag;
    if (flag.letter != 0 && word == std::string{'-', flag.letter}) return &flag;
    names.push_back("--" + flag.name);
  }
  const std::string near = Nearest(word, names);
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown option ", word, near.empty() ? "" : absl::StrCat("; did you mean ", near, "?")));
}

absl::Status CheckChoice(const FlagSpec& flag, const std::string& value) {
  if (flag.choices.empty()) return absl::OkStatus();
  const std::vector<std::string> choices = absl::StrSplit(flag.choices, ' ');
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag.name, " is \"", value, "\"; it can be one of: ", flag.choices));
}

// A number and the unit after it.
std::pair<std::string, std::string> SplitUnit(const std::string& text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  return {text.substr(0, digits), absl::AsciiStrToLower(text.substr(digits))};
}

// number * unit, or -1 when that is no int64 or the number is none.
int64_t Scale(const std::string& number, int64_t unit) {
  int64_t value = 0;
  if (unit == 0 || !absl::SimpleAtoi(number, &value)) return -1;
  return value > std::numeric_limits<int64_t>::max() / unit ? -1 : value * unit;
}

int64_t UnitOf(const std::string& unit, const std::vector<std::pair<std::string, int64_t>>& units) {
  for (const auto& [name, value] : units)
    if (unit == name) return value;
  return 0;
}

}  // namespace

std::string ParsedArgs::Get(const std::string& flag, const std::string& fallback) const {
  const auto it = flags_.find(flag);
  return it == flags_.end() ? fallback : it->second.back();
}

const std::vector<std::string>& ParsedArgs::GetAll(const std::string& flag) const {
  static const std::vector<std::string> kNone;
  const auto it = flags_.find(flag);
  return it == flags_.end() ? kNone : it->second;
}

absl::StatusOr<ParsedArgs> ParseArgs(const std::vector<std::string>& args,
                                     const std::vector<FlagSpec>& flags) {
  ParsedArgs parsed;
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--") {
      parsed.positional_.insert(parsed.positional_.end(), args.begin() + i + 1, args.end());
      break;
    }
    if (args[i].size() < 2 || args[i][0] != '-') {
      parsed.positional_.push_back(args[i]);
      continue;
    }
    const size_t equals = absl::StartsWith(args[i], "--") ? args[i].find('=') : std::string::npos;
    ASSIGN_OR_RETURN(const FlagSpec* flag, FindFlag(args[i].substr(0, equals), flags));
    const bool attached = equals != std::string::npos;
    if (flag->value.empty() && attached)
      return absl::InvalidArgumentError(absl::StrCat("--", flag->name, " takes no value"));
    if (!flag->value.empty() && !attached && i + 1 == args.size())
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag->name, " needs a value: ", flag->value));
    std::string value;
    if (!flag->value.empty()) value = attached ? args[i].substr(equals + 1) : args[++i];
    RETURN_IF_ERROR(CheckChoice(*flag, value));
    parsed.flags_[flag->name].push_back(std::move(value));
  }
  return parsed;
}

std::string Nearest(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t least = kNearEnough + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(word, candidate);
    if (distance >= least || distance >= candidate.size()) continue;
    least = distance;
    best = candidate;
  }
  return best;
}

absl::StatusOr<int32_t> ParseMemoryMib(const std::string& text) {
  const auto [number, unit] = SplitUnit(text);
  const int64_t mib = Scale(number, UnitOf(unit, {{"", 1},
                                                  {"m", 1},
                                                  {"mib", 1},
                                                  {"g", 1024},
                                                  {"gib", 1024},
                                                  {"t", 1 << 20},
                                                  {"tib", 1 << 20}}));
  if (mib < 0 || mib > std::numeric_limits<int32_t>::max())
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is no amount of memory; write MiB (512), 512M or 1G"));
  return static_cast<int32_t>(mib);
}

absl::StatusOr<int64_t> ParseDurationNanos(const std::string& text) {
  const auto [number, unit] = SplitUnit(text);
  const int64_t nanos = Scale(number, UnitOf(unit, {{"", 1'000'000'000},
                                                    {"ms", 1'000'000},
                                                    {"s", 1'000'000'000},
                                                    {"m", 60'000'000'000},
                                                    {"h", 3600'000'000'000}}));
  if (nanos < 0)
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is no duration; write seconds (30), 500ms, 30s or 2m"));
  return nanos;
}

}  // namespace drover
