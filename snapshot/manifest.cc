#include "snapshot/manifest.h"

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "snapshot/crc64.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr absl::string_view kFirstLine = "drover-snapshot 1";
constexpr absl::string_view kFirstWord = "drover-snapshot ";
constexpr size_t kMostName = 63;
constexpr size_t kSumLine = 6 + 16 + 1;  // "crc64 ", digits, newline

absl::Status Damaged(absl::string_view what) {
  return WithReason(absl::DataLossError(absl::StrCat("snapshot's manifest: ", what)),
                    "MANIFEST_DAMAGED");
}

std::string SumLine(absl::string_view text) {
  return absl::StrFormat("crc64 %016x\n", Crc64(text));
}

absl::StatusOr<Manifest::File> ParseFile(absl::string_view line) {
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  Manifest::File file;
  if (words.size() != 4 || words[0] != "file" || !IsSnapshotName(words[1]) ||
      words[1] == Manifest::kName || !absl::SimpleAtoi(words[2], &file.bytes) ||
      words[3].size() != 16 || !absl::SimpleHexAtoi(words[3], &file.crc64))
    return Damaged(absl::StrCat("the line '", line, "'"));
  file.name = std::string(words[1]);
  return file;
}

}  // namespace

bool IsSnapshotName(absl::string_view name) {
  const auto fits = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  };
  return !name.empty() && name.size() <= kMostName && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), fits);
}

std::string FormatManifest(const Manifest& manifest) {
  std::string text = absl::StrCat(kFirstLine, "\n");
  for (const Manifest::File& file : manifest.files)
    absl::StrAppendFormat(&text, "file %s %u %016x\n", file.name, file.bytes, file.crc64);
  return absl::StrCat(text, SumLine(text));
}

absl::StatusOr<Manifest> ParseManifest(absl::string_view text) {
  if (text.size() > Manifest::kMostBytes) return Damaged(absl::StrCat(text.size(), " bytes"));
  if (!absl::StartsWith(text, kFirstWord)) return Damaged("it does not begin as one");
  if (text.size() < kSumLine ||
      text.substr(text.size() - kSumLine) != SumLine(text.substr(0, text.size() - kSumLine)))
    return Damaged("its sum is missing or wrong");
  std::vector<absl::string_view> lines =
      absl::StrSplit(text.substr(0, text.size() - kSumLine), '\n');
  if (lines[0] != kFirstLine)
    return WithReason(
        absl::FailedPreconditionError(absl::StrCat("snapshot's manifest: '", lines[0],
                                                   "'; this Drover reads '", kFirstLine, "'")),
        "MANIFEST_VERSION_UNSUPPORTED");
  if (lines.size() < 2 || !lines.back().empty() || lines.size() - 2 > Manifest::kMostFiles)
    return Damaged(absl::StrCat(lines.size(), " lines"));
  Manifest manifest;
  std::set<std::string> names;
  for (size_t i = 1; i + 1 < lines.size(); ++i) {
    ASSIGN_OR_RETURN(Manifest::File file, ParseFile(lines[i]));
    if (!names.insert(file.name).second) return Damaged(absl::StrCat(file.name, " twice"));
    manifest.files.push_back(std::move(file));
  }
  return manifest;
}

}  // namespace drover
