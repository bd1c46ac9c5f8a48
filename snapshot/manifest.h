#ifndef DROVER_SNAPSHOT_MANIFEST_H_
#define DROVER_SNAPSHOT_MANIFEST_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace drover {

// What files a snapshot's directory has: text, one line each, the sum of all before it in the last.
//
//   drover-snapshot 1
//   file memory 1073741824 0123456789abcdef      name, bytes, CRC-64 of the content in hex
//   file state 13399 fedcba9876543210
//   crc64 00112233aabbccdd
struct Manifest {
  struct File {
    std::string name;  // as a device's id: letters, digits, '-', '_', '.'; not only dots
    uint64_t bytes = 0;
    uint64_t crc64 = 0;
    bool operator==(const File&) const = default;
  };
  static constexpr size_t kMostFiles = 64;
  static constexpr size_t kMostBytes = 16384;  // of the text
  static constexpr char kName[] = "manifest";

  std::vector<File> files;
  bool operator==(const Manifest&) const = default;
};

// Whether a file or a snapshot may have this name: 1 to 63 letters, digits, '-', '_', '.', the
// first no dot.
bool IsSnapshotName(absl::string_view name);

std::string FormatManifest(const Manifest& manifest);
// DATA_LOSS (MANIFEST_DAMAGED) that says where; FAILED_PRECONDITION (MANIFEST_VERSION_UNSUPPORTED)
// for a later version.
absl::StatusOr<Manifest> ParseManifest(absl::string_view text);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_MANIFEST_H_
