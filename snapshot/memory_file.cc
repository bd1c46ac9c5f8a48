#include "snapshot/memory_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "snapshot/crc64.h"
#include "vmm/base/mutex.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr uint64_t kPage = 4096;
constexpr int kMostThreads = 64;

// A half-open range of bytes.
struct Extent {
  uint64_t start = 0, end = 0;
};

// The data of [from, from + size) of a file, as ranges relative to `from`; all of it where the file
// cannot tell.
absl::StatusOr<std::vector<Extent>> DataExtents(int fd, uint64_t from, uint64_t size) {
  std::vector<Extent> out;
  for (uint64_t at = from; at < from + size;) {
    const off_t data = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // a hole to the end
    if (data < 0 && errno == EINVAL) return std::vector<Extent>{{0, size}};
    if (data < 0) return PosixStatus(errno, "lseek", "SEEK_DATA");
    const off_t hole = lseek(fd, data, SEEK_HOLE);
    if (hole < 0) return PosixStatus(errno, "lseek", "SEEK_HOLE");
    const uint64_t start = std::max<uint64_t>(static_cast<uint64_t>(data), from) / kPage * kPage;
    const uint64_t end = std::min<uint64_t>(static_cast<uint64_t>(hole), from + size);
    if (start < end) out.push_back({start - from, end - from});
    at = static_cast<uint64_t>(hole);
  }
  return out;
}

bool IsZero(const uint8_t* page) {
  // Equal to itself, one byte further on, and the first is 0.
  return page[0] == 0 && memcmp(page, page + 1, kPage - 1) == 0;
}

bool Wanted(const MemorySource& source, uint64_t page) {
  return source.pages.empty() || (source.pages[page / 64] >> page % 64 & 1) != 0;
}

// A part of one region that a thread takes at a time.
struct Chunk {
  const MemorySource* source;
  Extent extent;         // in the region; whole pages
  uint64_t file_offset;  // of the extent's start
  uint64_t crc = 0;      // of the content that the file has there
  uint64_t data_bytes = 0;
};

absl::StatusOr<std::vector<Extent>> ExtentsOf(const MemorySource& source) {
  if (source.fd < 0) return std::vector<Extent>{{0, source.bytes.size()}};
  return DataExtents(source.fd, source.fd_offset, source.bytes.size());
}

uint64_t SizeOf(const std::vector<MemorySource>& sources) {
  uint64_t bytes = 0;
  for (const MemorySource& source : sources) bytes += source.bytes.size();
  return bytes;
}

absl::StatusOr<std::vector<Chunk>> ChunksOf(const std::vector<MemorySource>& sources,
                                            uint64_t chunk_bytes) {
  std::vector<Chunk> chunks;
  uint64_t region_offset = 0;
  for (const MemorySource& source : sources) {
    ASSIGN_OR_RETURN(const std::vector<Extent> extents, ExtentsOf(source));
    for (const Extent& extent : extents)
      for (uint64_t at = extent.start; at < extent.end;) {
        // Chunks end at multiples of their size, so that the writes are aligned.
        const uint64_t end = std::min(extent.end, (at / chunk_bytes + 1) * chunk_bytes);
        chunks.push_back({&source, {at, end}, region_offset + at});
        at = end;
      }
    region_offset += source.bytes.size();
  }
  return chunks;
}

// Writes one memory with several threads.
class Writer {
 public:
  Writer(std::vector<Chunk> chunks, OutputFile* file, const MemoryWriteOptions& options)
      : chunks_(std::move(chunks)), file_(file), options_(options) {}

  absl::Status Run() {
    std::vector<std::thread> threads;
    const int count = std::clamp(options_.threads, 1, kMostThreads);
    for (int i = 1; i < count; ++i) threads.emplace_back([this] { Work(); });
    Work();
    for (std::thread& thread : threads) thread.join();
    MutexLock lock(&mutex_);
    return status_;
  }

  const std::vector<Chunk>& chunks() const { return chunks_; }

 private:
  void Work() {
    for (size_t i; !stop_ && (i = next_.fetch_add(1)) < chunks_.size();) {
      absl::Status status = Cancelled() ? absl::CancelledError("writing the memory was cancelled")
                                        : WriteChunk(&chunks_[i]);
      if (!status.ok()) return Fail(std::move(status));
      const uint64_t size = chunks_[i].extent.end - chunks_[i].extent.start;
      const uint64_t done = done_.fetch_add(size) + size;
      if (options_.on_progress) options_.on_progress(done);
    }
  }

  bool Cancelled() const { return options_.cancel != nullptr && *options_.cancel; }

  void Fail(absl::Status status) {
    stop_ = true;
    MutexLock lock(&mutex_);
    if (status_.ok()) status_ = std::move(status);
  }

  // Each run of pages with content in one write.
  absl::Status WriteChunk(Chunk* chunk) {
    const auto wanted = [&](uint64_t at) {
      return Wanted(*chunk->source, at / kPage) && !IsZero(chunk->source->bytes.data() + at);
    };
    for (uint64_t at = chunk->extent.start; at < chunk->extent.end;) {
      uint64_t end = at;
      while (end < chunk->extent.end && wanted(end)) end += kPage;
      if (end != at) RETURN_IF_ERROR(WriteRun(chunk, {at, end}));
      if (end == at) {
        chunk->crc = Crc64Shift(chunk->crc, kPage);
        end += kPage;
      }
      at = end;
    }
    return absl::OkStatus();
  }

  absl::Status WriteRun(Chunk* chunk, Extent run) {
    const std::span<const uint8_t> bytes =
        chunk->source->bytes.subspan(run.start, run.end - run.start);
    chunk->crc = Crc64({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, chunk->crc);
    chunk->data_bytes += bytes.size();
    return file_->Write(chunk->file_offset + run.start - chunk->extent.start, bytes);
  }

  std::vector<Chunk> chunks_;  // each is one thread's at a time
  OutputFile* const file_;
  const MemoryWriteOptions& options_;
  std::atomic<size_t> next_{0};
  std::atomic<uint64_t> done_{0};
  std::atomic<bool> stop_{false};
  Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

MemoryWritten SumUp(const std::vector<Chunk>& chunks, uint64_t file_bytes) {
  MemoryWritten out;
  out.file_bytes = file_bytes;
  uint64_t at = 0;
  for (const Chunk& chunk : chunks) {
    const uint64_t end = chunk.file_offset + chunk.extent.end - chunk.extent.start;
    out.crc64 = Crc64Shift(out.crc64, end - at) ^ chunk.crc;
    out.data_bytes += chunk.data_bytes;
    at = end;
  }
  out.crc64 = Crc64Shift(out.crc64, file_bytes - at);
  return out;
}

absl::Status CheckSources(const std::vector<MemorySource>& sources, uint64_t chunk_bytes) {
  if (chunk_bytes == 0 || chunk_bytes % kPage != 0)
    return absl::InvalidArgumentError(absl::StrCat("chunks of ", chunk_bytes, " bytes"));
  for (const MemorySource& source : sources)
    if (source.bytes.size() % kPage != 0 ||
        (!source.pages.empty() &&
         source.pages.size() != PageWordCount(source.bytes.size() / kPage)))
      return absl::InvalidArgumentError(absl::StrCat("a memory region of ", source.bytes.size(),
                                                     " bytes and ", source.pages.size(),
                                                     " words of pages"));
  return absl::OkStatus();
}

absl::Status ReadAll(int fd, uint64_t offset, std::span<uint8_t> out) {
  while (!out.empty()) {
    const ssize_t got = pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return PosixStatus(errno, "pread", "of a memory file");
    if (got == 0) return absl::DataLossError(absl::StrCat("the memory file ends at ", offset));
    offset += static_cast<uint64_t>(got);
    out = out.subspan(static_cast<size_t>(got));
  }
  return absl::OkStatus();
}

// The runs of wanted pages of [start, end).
absl::Status ForEachWanted(const MemorySource& target, Extent extent,
                           const std::function<absl::Status(Extent)>& visit) {
  if (target.pages.empty()) return visit(extent);
  for (uint64_t at = extent.start; at < extent.end; at += kPage) {
    const uint64_t start = at;
    while (at < extent.end && Wanted(target, at / kPage)) at += kPage;
    if (at != start) RETURN_IF_ERROR(visit({start, std::min(at, extent.end)}));
  }
  return absl::OkStatus();
}

absl::Status ReadRegion(int fd, uint64_t file_offset, const MemorySource& target,
                        bool clear_holes) {
  ASSIGN_OR_RETURN(const std::vector<Extent> extents,
                   DataExtents(fd, file_offset, target.bytes.size()));
  const auto clear = [&](Extent extent) {
    memset(target.bytes.data() + extent.start, 0, extent.end - extent.start);
    return absl::OkStatus();
  };
  const auto read = [&](Extent extent) {
    return ReadAll(fd, file_offset + extent.start,
                   target.bytes.subspan(extent.start, extent.end - extent.start));
  };
  uint64_t at = 0;
  for (const Extent& extent : extents) {
    if (clear_holes) RETURN_IF_ERROR(ForEachWanted(target, {at, extent.start}, clear));
    RETURN_IF_ERROR(ForEachWanted(target, extent, read));
    at = extent.end;
  }
  return clear_holes ? ForEachWanted(target, {at, target.bytes.size()}, clear) : absl::OkStatus();
}

}  // namespace

std::vector<MemorySource> SourcesOf(const GuestMemory& memory, const DiffMemory* diff) {
  std::vector<MemorySource> out;
  for (const GuestRegion& region : memory.regions()) {
    MemorySource source = {{region.host, region.range.size}, memory.fd(), region.file_offset, {}};
    if (diff != nullptr) source.pages = diff->pages[out.size()];
    out.push_back(source);
  }
  return out;
}

absl::StatusOr<MemoryWritten> WriteMemoryFile(const std::vector<MemorySource>& sources,
                                              OutputFile* file, const MemoryWriteOptions& options) {
  RETURN_IF_ERROR(CheckSources(sources, options.chunk_bytes));
  const uint64_t file_bytes = SizeOf(sources);
  RETURN_IF_ERROR(file->SetSize(file_bytes));
  ASSIGN_OR_RETURN(std::vector<Chunk> chunks, ChunksOf(sources, options.chunk_bytes));
  Writer writer(std::move(chunks), file, options);
  RETURN_IF_ERROR(writer.Run());
  RETURN_IF_ERROR(file->Sync());
  return SumUp(writer.chunks(), file_bytes);
}

absl::Status CheckMemoryFile(int fd, const MemoryShape& shape) {
  struct stat stat;
  if (fstat(fd, &stat) != 0) return PosixStatus(errno, "fstat", "of a memory file");
  const auto size = static_cast<uint64_t>(stat.st_size);
  if (S_ISREG(stat.st_mode) && size == shape.bytes()) return absl::OkStatus();
  return WithReason(
      absl::FailedPreconditionError(
          S_ISREG(stat.st_mode)
              ? absl::StrFormat("the memory file has %u bytes; the snapshot's memory has %u", size,
                                shape.bytes())
              : "the memory file is no regular file"),
      "MEMORY_FILE_MISMATCH");
}

absl::Status ReadMemoryFile(int fd, const std::vector<MemorySource>& targets, bool clear_holes) {
  RETURN_IF_ERROR(CheckSources(targets, kPage));
  MemoryShape shape;
  for (const MemorySource& target : targets) shape.regions.push_back({0, target.bytes.size()});
  RETURN_IF_ERROR(CheckMemoryFile(fd, shape));
  uint64_t offset = 0;
  for (const MemorySource& target : targets) {
    RETURN_IF_ERROR(ReadRegion(fd, offset, target, clear_holes));
    offset += target.bytes.size();
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> DigestFile(int fd) {
  struct stat stat;
  if (fstat(fd, &stat) != 0) return PosixStatus(errno, "fstat", "of a snapshot's file");
  const auto size = static_cast<uint64_t>(stat.st_size);
  ASSIGN_OR_RETURN(const std::vector<Extent> extents, DataExtents(fd, 0, size));
  std::vector<uint8_t> buffer(1 << 20);
  uint64_t crc = 0, at = 0;
  for (const Extent& extent : extents) {
    crc = Crc64Shift(crc, extent.start - at);
    for (at = extent.start; at < extent.end;) {
      const uint64_t bytes = std::min<uint64_t>(buffer.size(), extent.end - at);
      RETURN_IF_ERROR(ReadAll(fd, at, std::span(buffer).first(bytes)));
      crc = Crc64({reinterpret_cast<const char*>(buffer.data()), bytes}, crc);
      at += bytes;
    }
  }
  return Crc64Shift(crc, size - at);
}

}  // namespace drover
