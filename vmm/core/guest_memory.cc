#include "vmm/core/guest_memory.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr uint64_t kHugePage = 2 << 20;

uint64_t PageBytes(MemoryBacking backing) {
  return backing == MemoryBacking::kHugePages ? kHugePage : PageSize();
}

absl::Status CheckRange(const GuestRange& range, uint64_t previous_end, uint64_t page) {
  const uint64_t mask = page - 1;
  if (range.size == 0 || (range.start & mask) != 0 || (range.size & mask) != 0)
    return absl::InvalidArgumentError(absl::StrFormat(
        "guest memory at %#x of %#x bytes: not whole pages", range.start, range.size));
  if (range.start + range.size < range.start || range.start < previous_end)
    return absl::InvalidArgumentError(
        absl::StrFormat("guest memory at %#x of %#x bytes: wraps, or not after the range before",
                        range.start, range.size));
  return absl::OkStatus();
}

absl::Status NotRam(uint64_t address, uint64_t size) {
  return WithPosixErrno(absl::OutOfRangeError(absl::StrFormat(
                            "guest-physical %#x, %u bytes: not all of it is RAM", address, size)),
                        EFAULT);
}

struct Backed {
  Fd fd;
  MappedRegion mapping;
};

absl::StatusOr<Backed> MakeBacked(uint64_t size, MemoryBacking backing) {
  const bool huge = backing == MemoryBacking::kHugePages;
  Backed out;
  ASSIGN_OR_RETURN(out.fd, MakeMemFd("guest-memory", size, huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
  const auto map = huge ? MappedRegion::MapReserved : MappedRegion::MapShared;
  ASSIGN_OR_RETURN(out.mapping, map(out.fd.get(), 0, size, PROT_READ | PROT_WRITE));
  return out;
}

// Calls `copy(host, done, n)` for each piece of [address, address + size); OUT_OF_RANGE before the
// first when any is missing.
template <typename Copy>
absl::Status ForEachPiece(const std::vector<GuestRegion>& regions, uint64_t address, uint64_t size,
                          Copy copy) {
  struct Piece {
    uint8_t* host;
    uint64_t size;
  };
  std::vector<Piece> pieces;
  for (const GuestRegion& region : regions) {
    if (size == 0) break;
    if (!region.range.Contains(address)) continue;
    const uint64_t offset = address - region.range.start;
    const uint64_t n = std::min(size, region.range.size - offset);
    pieces.push_back({region.host + offset, n});
    address += n;
    size -= n;
  }
  if (size != 0) return NotRam(address, size);
  uint64_t done = 0;
  for (const Piece& piece : pieces) {
    copy(piece.host, done, piece.size);
    done += piece.size;
  }
  return absl::OkStatus();
}

}  // namespace

GuestMemory::GuestMemory(Fd fd, MappedRegion mapping, std::vector<GuestRegion> regions,
                         uint64_t size, MemoryBacking backing)
    : fd_(std::move(fd)),
      mapping_(std::move(mapping)),
      regions_(std::move(regions)),
      size_(size),
      backing_(backing) {}

absl::StatusOr<std::unique_ptr<GuestMemory>> GuestMemory::Create(
    const std::vector<GuestRange>& ranges, MemoryBacking backing) {
  uint64_t size = 0, previous_end = 0;
  for (const GuestRange& range : ranges) {
    RETURN_IF_ERROR(CheckRange(range, previous_end, PageBytes(backing)));
    previous_end = range.end();
    if (size + range.size < size)
      return absl::InvalidArgumentError("guest memory: the sizes' sum wraps");
    size += range.size;
  }
  if (size == 0) return absl::InvalidArgumentError("guest memory: no range");
  ASSIGN_OR_RETURN(Backed backed, MakeBacked(size, backing));
  std::vector<GuestRegion> regions;
  uint64_t offset = 0;
  for (const GuestRange& range : ranges) {
    regions.push_back({range, offset, backed.mapping.data() + offset});
    offset += range.size;
  }
  return std::unique_ptr<GuestMemory>(new GuestMemory(
      std::move(backed.fd), std::move(backed.mapping), std::move(regions), size, backing));
}

absl::Status GuestMemory::Read(uint64_t address, std::span<uint8_t> out) const {
  return ForEachPiece(
      regions_, address, out.size(),
      [&](const uint8_t* host, uint64_t done, uint64_t n) { memcpy(out.data() + done, host, n); });
}

absl::Status GuestMemory::Write(uint64_t address, std::span<const uint8_t> data) {
  RETURN_IF_ERROR(ForEachPiece(
      regions_, address, data.size(),
      [&](uint8_t* host, uint64_t done, uint64_t n) { memcpy(host, data.data() + done, n); }));
  MarkDirty(address, data.size());
  return absl::OkStatus();
}

void GuestMemory::MarkDirty(uint64_t address, uint64_t size) {
  // Between the caller's writes and this load: either SetWriteTracking's store is seen here, or
  // what was written is seen by whoever reads memory after it.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!tracking_.load() || size == 0) return;
  const uint64_t last = address + (size - 1) < address ? ~uint64_t{0} : address + (size - 1);
  for (size_t i = 0; i < regions_.size(); ++i) {
    const GuestRange& range = regions_[i].range;
    const uint64_t from = std::max(address, range.start), to = std::min(last, range.end() - 1);
    if (from > to) continue;
    const uint64_t first = (from - range.start) / PageSize();
    writes_[i]->Set(first, (to - range.start) / PageSize() - first + 1);
  }
}

void GuestMemory::SetWriteTracking(bool on) {
  if (!on) {
    tracking_.store(false);
    return;
  }
  if (writes_.empty())
    for (const GuestRegion& region : regions_)
      writes_.push_back(std::make_unique<AtomicPageBitmap>(region.range.size / PageSize()));
  for (const std::unique_ptr<AtomicPageBitmap>& writes : writes_) writes->Clear();
  tracking_.store(true);
}

bool GuestMemory::TakeWrites(size_t region, std::span<uint64_t> words) {
  return !writes_.empty() && writes_[region]->TakeInto(words);
}

absl::StatusOr<std::span<uint8_t>> GuestMemory::HostRange(uint64_t address, uint64_t size) {
  for (const GuestRegion& region : regions_) {
    if (!region.range.Contains(address)) continue;
    const uint64_t offset = address - region.range.start;
    if (size <= region.range.size - offset) return std::span<uint8_t>(region.host + offset, size);
  }
  return NotRam(address, size);
}

absl::Status GuestMemory::PunchHole(uint64_t offset, uint64_t size) {
  if (backing_ == MemoryBacking::kHugePages) {
    memset(mapping_.data() + offset, 0, size);
    return absl::OkStatus();
  }
  if (fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                static_cast<off_t>(size)) != 0)
    return PosixStatus(errno, "FALLOC_FL_PUNCH_HOLE",
                       absl::StrFormat("of guest memory at offset %#x, %u bytes", offset, size));
  return absl::OkStatus();
}

absl::Status GuestMemory::Clear() {
  RETURN_IF_ERROR(PunchHole(0, size_));
  MarkDirty(0, ~uint64_t{0});
  return absl::OkStatus();
}

absl::Status GuestMemory::Discard(uint64_t address, uint64_t size) {
  const uint64_t mask = PageSize() - 1;
  if (size == 0 || (address & mask) != 0 || (size & mask) != 0)
    return PosixStatus(
        EINVAL, "discard",
        absl::StrFormat("of guest memory %#x, %u bytes: not whole pages", address, size));
  ASSIGN_OR_RETURN(const std::span<uint8_t> host, HostRange(address, size));
  RETURN_IF_ERROR(PunchHole(static_cast<uint64_t>(host.data() - mapping_.data()), size));
  MarkDirty(address, size);
  return absl::OkStatus();
}

}  // namespace drover
