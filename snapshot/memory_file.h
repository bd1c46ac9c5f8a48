#ifndef DROVER_SNAPSHOT_MEMORY_FILE_H_
#define DROVER_SNAPSHOT_MEMORY_FILE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "snapshot/microvm_state.h"
#include "snapshot/output_file.h"
#include "vmm/core/guest_memory.h"

namespace drover {

// The memory file of a snapshot: the regions' bytes in the order of their guest-physical addresses,
// one after the other, holes for pages of zeros. Of a diff it holds only the pages of
// DiffMemory::pages; what lies between is a hole and says nothing.

// One region as it lies in this process.
struct MemorySource {
  std::span<uint8_t> bytes;  // whole pages
  // What backs them, to know what was never touched without touching it: a file whose SEEK_DATA
  // works, such as a memfd. -1: all bytes are looked at.
  int fd = -1;
  uint64_t fd_offset = 0;
  // Only these pages, bit i % 64 of word i / 64 for page i; empty: all.
  std::span<const uint64_t> pages;
};
// All regions of a VM's memory; with `diff`, its pages. They borrow both.
std::vector<MemorySource> SourcesOf(const GuestMemory& memory, const DiffMemory* diff = nullptr);

struct MemoryWriteOptions {
  int threads = 4;                            // 1 to 64, the caller's among them
  uint64_t chunk_bytes = 1 << 20;             // of one thread at a time, whole pages
  const std::atomic<bool>* cancel = nullptr;  // looked at before each chunk
  std::function<void(uint64_t)> on_progress;  // bytes of the regions done so far; on any thread
};

struct MemoryWritten {
  uint64_t file_bytes = 0;  // the regions' sum
  uint64_t data_bytes = 0;  // of them not holes
  uint64_t crc64 = 0;       // of the file's content
  bool operator==(const MemoryWritten&) const = default;
};

// Writes the memory into an empty file, and syncs it. The memory must not change meanwhile.
// CANCELLED when `cancel` was set; otherwise the first error of the file, such as
// RESOURCE_EXHAUSTED on a full disk. What is in the file then is of no use.
absl::StatusOr<MemoryWritten> WriteMemoryFile(const std::vector<MemorySource>& sources,
                                              OutputFile* file,
                                              const MemoryWriteOptions& options = {});

// FAILED_PRECONDITION (MEMORY_FILE_MISMATCH) unless `fd` is a regular file of exactly the shape's
// size: it says both.
absl::Status CheckMemoryFile(int fd, const MemoryShape& shape);

// Reads a memory file into regions that together are as large, over what is there: of a diff (whose
// pages the sources name) over its base. Holes are not read: in a file that is no diff they become
// zeros only where `clear_holes` says so. DATA_LOSS when the file ends early.
absl::Status ReadMemoryFile(int fd, const std::vector<MemorySource>& targets, bool clear_holes);

// The CRC-64 of a file's content, as MemoryWritten has it; holes cost nothing.
absl::StatusOr<uint64_t> DigestFile(int fd);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_MEMORY_FILE_H_
