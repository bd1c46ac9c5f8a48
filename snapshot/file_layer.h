#ifndef DROVER_SNAPSHOT_FILE_LAYER_H_
#define DROVER_SNAPSHOT_FILE_LAYER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "snapshot/output_file.h"
#include "vmm/base/fd.h"

namespace drover {

// The few operations by which snapshots reach a disk, so that a test can cut the power between any
// two. Paths are relative to one directory, without "..". Thread-compatible, but for the files.
class FileLayer {
 public:
  virtual ~FileLayer() = default;
  // A new, empty file; ALREADY_EXISTS where there is one.
  virtual absl::StatusOr<std::unique_ptr<OutputFile>> CreateFile(const std::string& path) = 0;
  // ALREADY_EXISTS where there is something.
  virtual absl::Status MakeDirectory(const std::string& path) = 0;
  // The names in it survive a power cut when this returns. "" is the layer's own directory.
  virtual absl::Status SyncDirectory(const std::string& path) = 0;
  // Both in the layer's own directory; ALREADY_EXISTS where `to` is there. All or nothing.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  // A directory with its files; OK where there is none.
  virtual absl::Status RemoveDirectory(const std::string& path) = 0;

  // Names in a directory, sorted, without "." and "..".
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& path) = 0;
  // OUT_OF_RANGE where it has more than `limit` bytes.
  virtual absl::StatusOr<std::string> ReadFile(const std::string& path, size_t limit) = 0;
  struct FileFacts {
    uint64_t bytes = 0;
    uint64_t crc64 = 0;  // 0 unless asked for
  };
  // Of a regular file; links are not followed.
  virtual absl::StatusOr<FileFacts> Examine(const std::string& path, bool digest) = 0;
};

// Below a directory of the host. Files get mode 0600, directories 0700.
class PosixFileLayer : public FileLayer {
 public:
  static absl::StatusOr<std::unique_ptr<PosixFileLayer>> Open(const char* directory);

  absl::StatusOr<std::unique_ptr<OutputFile>> CreateFile(const std::string& path) override;
  absl::Status MakeDirectory(const std::string& path) override;
  absl::Status SyncDirectory(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status RemoveDirectory(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override;
  absl::StatusOr<std::string> ReadFile(const std::string& path, size_t limit) override;
  absl::StatusOr<FileFacts> Examine(const std::string& path, bool digest) override;

 private:
  explicit PosixFileLayer(Fd root) : root_(std::move(root)) {}
  absl::StatusOr<Fd> OpenAt(const std::string& path, int flags) const;

  const Fd root_;
};

}  // namespace drover

#endif  // DROVER_SNAPSHOT_FILE_LAYER_H_
