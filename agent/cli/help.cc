#include "agent/cli/help.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace drover {
namespace {

constexpr char kIntroduction[] = R"(drover runs virtual machines on this host, through drover-agent.

Examples:
  drover host
  drover vm create web-1 --kernel /var/lib/drover/images/vmlinuz --memory 512M --start
  drover vm list
  drover vm console web-1
  drover vm stop web-1
  drover vm delete web-1

)";

constexpr char kExitCodes[] = R"(
Exit codes:
  0  done
  1  an error that has no code of its own
  2  the command line is wrong, or the agent refuses a value in it
  3  there is no such VM
  4  the VM is not in a state for this, or has changed since the etag given
  5  the agent does not answer
  6  the id is taken
  7  the host has no room
)";

void PrintColumns(const std::vector<std::pair<std::string, std::string>>& rows, std::ostream& out) {
  size_t width = 0;
  for (const auto& row : rows) width = std::max(width, row.first.size());
  for (const auto& [left, right] : rows)
    out << "  " << left << std::string(width - left.size() + 2, ' ') << right << "\n";
}

std::string FlagText(const FlagSpec& flag) {
  const std::string letter =
      flag.letter == 0 ? "" : absl::StrCat("-", std::string(1, flag.letter), ", ");
  return absl::StrCat(letter, "--", flag.name, flag.value.empty() ? "" : " ", flag.value);
}

void PrintFlags(const std::vector<FlagSpec>& flags, std::ostream& out) {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const FlagSpec& flag : flags) rows.emplace_back(FlagText(flag), flag.help);
  PrintColumns(rows, out);
}

}  // namespace

void PrintHelp(std::ostream& out) {
  out << kIntroduction << "Commands:\n";
  std::vector<std::pair<std::string, std::string>> rows;
  for (const CommandSpec& command : Commands())
    rows.emplace_back(
        absl::StrCat(command.words, command.arguments.empty() ? "" : " ", command.arguments),
        command.summary);
  PrintColumns(rows, out);
  out << "\nOptions of every command:\n";
  PrintFlags(GlobalFlags(), out);
  out << kExitCodes;
}

void PrintCommandHelp(const CommandSpec& command, std::ostream& out) {
  out << command.summary << ".\n\nExamples:\n";
  for (const std::string& example : command.examples) out << "  " << example << "\n";
  out << "\nUsage:\n  drover " << command.words << (command.arguments.empty() ? "" : " ")
      << command.arguments << " [options]\n\nOptions:\n";
  PrintFlags(command.flags, out);
  PrintFlags(GlobalFlags(), out);
}

}  // namespace drover
