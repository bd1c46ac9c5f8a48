#include "vmm/core/memory_region.h"

#include <sys/mman.h>

#include <cerrno>

#include "absl/strings/str_format.h"
#include "vmm/base/status.h"
#include "vmm/core/vm_errors.h"

namespace drover {
namespace {

absl::Status MapFixed(uint8_t* at, uint64_t size, int prot, int flags, int fd, uint64_t offset) {
  if (mmap(at, size, prot, flags | MAP_FIXED | MAP_NORESERVE, fd, static_cast<off_t>(offset)) ==
      MAP_FAILED)
    return PosixStatus(errno, "mmap", absl::StrFormat("of %u bytes into an arena", size));
  return absl::OkStatus();
}

}  // namespace

absl::Status MemoryRegion::AddMapping(uint64_t, uint64_t, const Fd&, uint64_t, Protection) {
  return Unsupported("mapping a file into a memory region that is no arena");
}

absl::Status MemoryRegion::RemoveMapping(uint64_t, uint64_t) {
  return Unsupported("unmapping a part of a memory region that is no arena");
}

absl::StatusOr<std::unique_ptr<MemoryRegion>> PlainRegion::Anonymous(uint64_t size) {
  ASSIGN_OR_RETURN(MappedRegion mapping, MappedRegion::Anonymous(size, PROT_READ | PROT_WRITE));
  return std::make_unique<PlainRegion>(std::move(mapping));
}

absl::StatusOr<std::unique_ptr<MemoryRegion>> MemoryArena::Create(uint64_t size) {
  ASSIGN_OR_RETURN(MappedRegion mapping, MappedRegion::Anonymous(size, PROT_READ));
  return std::unique_ptr<MemoryRegion>(new MemoryArena(std::move(mapping)));
}

absl::Status MemoryArena::AddMapping(uint64_t offset, uint64_t size, const Fd& fd,
                                     uint64_t fd_offset, Protection protection) {
  uint8_t* const at = data() + offset;
  if (protection == Protection::kReadWrite)
    return MapFixed(at, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), fd_offset);
  const absl::Status shared = MapFixed(at, size, PROT_READ, MAP_SHARED, fd.get(), fd_offset);
  // Before Linux 6.7 a memfd sealed against writing cannot be mapped shared even for reading.
  if (PosixErrno(shared) != std::optional<int>(EPERM)) return shared;
  return MapFixed(at, size, PROT_READ, MAP_PRIVATE, fd.get(), fd_offset);
}

absl::Status MemoryArena::RemoveMapping(uint64_t offset, uint64_t size) {
  return MapFixed(data() + offset, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

}  // namespace drover
