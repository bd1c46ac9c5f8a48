#ifndef DROVER_SNAPSHOT_DESCRIBE_H_
#define DROVER_SNAPSHOT_DESCRIBE_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace drover {

// What drover-vmm --describe-snapshot ends with. The numbers are stable.
enum class SnapshotVerdict {
  kSound = 0,
  kUnreadable = 1,   // the file could not be opened or read
  kDamaged = 3,      // a snapshot that was cut off or changed, or whose state is malformed
  kForeign = 4,      // no snapshot of Drover
  kUnsupported = 5,  // of a version or with flags that this program does not know
  kImpossible = 6,   // well-formed, but no Drover writes such a state
};
const char* NameOf(SnapshotVerdict verdict);

struct SnapshotDescription {
  SnapshotVerdict verdict = SnapshotVerdict::kSound;
  std::string json;
};

// The state file of a snapshot as JSON, for people and programs, whether it is sound or not: the
// verdict, each thing that is wrong (`problems`: reason, message, and field where it is one of the
// state), the header, the checksum, and of the state what can be read; null for what cannot. A
// state behind a wrong checksum is shown with "trusted": false. Neither KVM nor privilege is
// needed; whatever the bytes are, only memory of some times their size is taken.
//
// `bytes` is the beginning of a file of `file_bytes`: all of it up to kMaxEnvelopeBytes.
SnapshotDescription DescribeSnapshot(absl::string_view path, absl::string_view bytes,
                                     uint64_t file_bytes);
// Reads the file first; anything but a regular file is kUnreadable.
SnapshotDescription DescribeSnapshotFile(const std::string& path);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_DESCRIBE_H_
