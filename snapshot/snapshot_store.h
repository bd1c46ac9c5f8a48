#ifndef DROVER_SNAPSHOT_SNAPSHOT_STORE_H_
#define DROVER_SNAPSHOT_SNAPSHOT_STORE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "snapshot/file_layer.h"
#include "snapshot/manifest.h"

namespace drover {

// Snapshots as directories of one storage area: NAME/manifest and the files it lists. What is being
// written is .NAME.new, what is being deleted .NAME.old; nobody reads these, and Recover removes
// them. So a snapshot is there as a whole or not at all, whenever the power fails.
// Thread-compatible; one process writes at a time. The layer outlives all.

// One snapshot on its way to the disk. Destroyed before Commit, it leaves nothing behind.
class SnapshotWriter {
 public:
  // INVALID_ARGUMENT for a name that is none; ALREADY_EXISTS where that snapshot is there, or is
  // being written.
  static absl::StatusOr<std::unique_ptr<SnapshotWriter>> Create(FileLayer* layer,
                                                                absl::string_view name);
  ~SnapshotWriter();
  SnapshotWriter(const SnapshotWriter&) = delete;
  SnapshotWriter& operator=(const SnapshotWriter&) = delete;

  // A new file of the snapshot; whoever writes it syncs it.
  absl::StatusOr<std::unique_ptr<OutputFile>> CreateFile(absl::string_view name);
  // The same for a small one that is at hand.
  absl::Status WriteFile(absl::string_view name, absl::string_view content);

  // `manifest` lists every file that was made, each written and synced. When this returns, the
  // snapshot is there and stays; after an error it is not, but for an error of the very last sync,
  // when either may be.
  absl::Status Commit(const Manifest& manifest);

 private:
  SnapshotWriter(FileLayer* layer, std::string name);
  absl::Status CheckManifest(const Manifest& manifest) const;

  FileLayer* const layer_;
  const std::string name_;
  const std::string temporary_;
  std::vector<std::string> files_;
  bool committed_ = false;
};

// Names of the snapshots that are there.
absl::StatusOr<std::vector<std::string>> ListSnapshots(FileLayer* layer);
// The manifest, once every file in it is there with its size, and with `digests` its content, which
// reads all of it. NOT_FOUND; ParseManifest's errors; DATA_LOSS (SNAPSHOT_FILE_DAMAGED) names the
// file, what it has and what would be right.
absl::StatusOr<Manifest> CheckSnapshot(FileLayer* layer, absl::string_view name, bool digests);
// Gone as a whole, or there as a whole. NOT_FOUND.
absl::Status DeleteSnapshot(FileLayer* layer, absl::string_view name);
// Removes what an interrupted write or deletion left; before the first of either.
absl::Status RecoverSnapshots(FileLayer* layer);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_SNAPSHOT_STORE_H_
