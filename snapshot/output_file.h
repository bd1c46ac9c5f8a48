#ifndef DROVER_SNAPSHOT_OUTPUT_FILE_H_
#define DROVER_SNAPSHOT_OUTPUT_FILE_H_

#include <cstdint>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "vmm/base/fd.h"

namespace drover {

// A file that is being written. Write is thread-safe; the rest is for one thread, when all writes
// are over.
class OutputFile {
 public:
  virtual ~OutputFile() = default;
  // All of `bytes` at `offset`; between what was written there are holes.
  virtual absl::Status Write(uint64_t offset, std::span<const uint8_t> bytes) = 0;
  virtual absl::Status SetSize(uint64_t bytes) = 0;
  // Its content survives a power cut when this returns; its name may not
  // (FileLayer::SyncDirectory).
  virtual absl::Status Sync() = 0;
};

// One that is open: pwrite, ftruncate, fsync.
class FdOutputFile : public OutputFile {
 public:
  explicit FdOutputFile(Fd fd) : fd_(std::move(fd)) {}
  int fd() const { return fd_.get(); }
  absl::Status Write(uint64_t offset, std::span<const uint8_t> bytes) override;
  absl::Status SetSize(uint64_t bytes) override;
  absl::Status Sync() override;

 private:
  const Fd fd_;
};

}  // namespace drover

#endif  // DROVER_SNAPSHOT_OUTPUT_FILE_H_
