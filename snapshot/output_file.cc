#include "snapshot/output_file.h"

#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"

namespace drover {

absl::Status FdOutputFile::Write(uint64_t offset, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return PosixStatus(errno, "pwrite", absl::StrCat("at ", offset));
    offset += static_cast<uint64_t>(done);
    bytes = bytes.subspan(static_cast<size_t>(done));
  }
  return absl::OkStatus();
}

absl::Status FdOutputFile::SetSize(uint64_t bytes) {
  if (ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0)
    return PosixStatus(errno, "ftruncate", absl::StrCat("to ", bytes));
  return absl::OkStatus();
}

absl::Status FdOutputFile::Sync() {
  if (fsync(fd_.get()) != 0) return PosixStatus(errno, "fsync", "of a snapshot's file");
  return absl::OkStatus();
}

}  // namespace drover
