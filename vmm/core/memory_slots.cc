#include "vmm/core/memory_slots.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"
#include "vmm/core/vm_errors.h"

namespace drover {
namespace {

// One range of the initial RAM as a region; keeps all of it alive.
class InitialRegion : public MemoryRegion {
 public:
  InitialRegion(std::shared_ptr<GuestMemory> memory, const GuestRegion& region)
      : memory_(std::move(memory)), data_(region.host), size_(region.range.size) {}
  uint8_t* data() const override { return data_; }
  uint64_t size() const override { return size_; }

 private:
  const std::shared_ptr<GuestMemory> memory_;
  uint8_t* const data_;
  const uint64_t size_;
};

bool Aligned(uint64_t value) { return value % PageSize() == 0; }

uint64_t PagesOf(uint64_t size) { return RoundUpToPage(size) / PageSize(); }

absl::Status OwnedByDirtyLog() {
  return absl::FailedPreconditionError("the VM's DirtyLog alone decides which memory is logged");
}

// The guest range that `region` takes at `address`.
absl::StatusOr<GuestRange> RangeFor(uint64_t address, const MemoryRegion* region) {
  if (region == nullptr || region->size() == 0) return Malformed("memory region of no bytes");
  if (!Aligned(address) || !Aligned(reinterpret_cast<uintptr_t>(region->data())))
    return Malformed(absl::StrFormat("memory region at %#x: not page-aligned", address));
  const uint64_t size = RoundUpToPage(region->size());
  if (size < region->size() || address + (size - 1) < address || address + size == 0)
    return Wraps(absl::StrFormat("memory region at %#x of %#x bytes", address, region->size()));
  return GuestRange{address, size};
}

}  // namespace

uint64_t DirtyLogBytes(uint64_t size) { return (PagesOf(size) + 7) / 8; }

MemorySlots::MemorySlots(std::unique_ptr<GuestMemory> memory, uint32_t limit, Apply apply)
    : memory_(std::move(memory)), limit_(limit), apply_(std::move(apply)) {}

absl::Status MemorySlots::MapInitialMemory() {
  MutexLock lock(&mutex_);
  for (const GuestRegion& region : memory_->regions())
    RETURN_IF_ERROR(Insert({.range = region.range, .host = region.host},
                           std::make_unique<InitialRegion>(memory_, region)));
  return absl::OkStatus();
}

absl::StatusOr<MemorySlot> MemorySlots::Add(uint64_t address, std::unique_ptr<MemoryRegion> region,
                                            bool read_only, bool log_dirty_pages, CacheType cache) {
  ASSIGN_OR_RETURN(const GuestRange range, RangeFor(address, region.get()));
  MutexLock lock(&mutex_);
  if (dirty_log_open_ && log_dirty_pages) return OwnedByDirtyLog();
  RETURN_IF_ERROR(CheckFree(range));
  uint8_t* const host = region->data();
  return Insert({.range = range,
                 .host = host,
                 .read_only = read_only,
                 .log_dirty_pages = log_dirty_pages,
                 .cache = cache},
                std::move(region));
}

absl::Status MemorySlots::CheckFree(const GuestRange& range) const {
  for (const auto& [slot, entry] : entries_)
    if (range.Overlaps(entry.mapping.range))
      return AlreadyThere(absl::StrFormat("memory region at %#x of %#x bytes: overlaps slot %u",
                                          range.start, range.size, slot));
  return absl::OkStatus();
}

absl::StatusOr<MemorySlot> MemorySlots::SmallestFree() const {
  MemorySlot slot = 0;
  for (const auto& [used, entry] : entries_) {
    if (used != slot) break;
    ++slot;
  }
  if (slot < limit_) return slot;
  return WithPosixErrno(
      absl::ResourceExhaustedError(absl::StrFormat("all %u memory slots are in use", limit_)),
      ENOSPC);
}

absl::StatusOr<MemorySlot> MemorySlots::Insert(SlotMapping mapping,
                                               std::unique_ptr<MemoryRegion> region) {
  ASSIGN_OR_RETURN(mapping.slot, SmallestFree());
  mapping.serial = ++last_serial_;
  mapping.log_dirty_pages |= log_new_slots_;
  RETURN_IF_ERROR(apply_(mapping));
  Entry& entry = entries_[mapping.slot] = {mapping, std::move(region)};
  entry.note_writes = log_new_slots_;
  return mapping.slot;
}

absl::StatusOr<std::unique_ptr<MemoryRegion>> MemorySlots::Remove(MemorySlot slot) {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(Entry * entry, Find(slot));
  RETURN_IF_ERROR(apply_({.slot = slot}));
  std::unique_ptr<MemoryRegion> region = std::move(entry->region);
  entries_.erase(slot);
  return region;
}

absl::StatusOr<MemorySlots::Entry*> MemorySlots::Find(MemorySlot slot) {
  const auto found = entries_.find(slot);
  if (found == entries_.end()) return UnknownSlot(slot);
  return &found->second;
}

absl::StatusOr<MemorySlots::Entry*> MemorySlots::FindPart(MemorySlot slot, uint64_t offset,
                                                          uint64_t size) {
  ASSIGN_OR_RETURN(Entry * entry, Find(slot));
  const auto part = [&] {
    return absl::StrFormat("%#x bytes at %#x of memory slot %u", size, offset, slot);
  };
  if (!Aligned(offset) || !Aligned(size)) return Malformed(part() + ": not whole pages");
  if (offset + size < offset) return Wraps(part());
  if (offset + size > entry->mapping.range.size) return OutsideRegion(part());
  return entry;
}

absl::Status MemorySlots::Msync(MemorySlot slot, uint64_t offset, uint64_t size) {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(Entry * entry, FindPart(slot, offset, size));
  if (msync(entry->mapping.host + offset, size, MS_SYNC) != 0)
    return PosixStatus(errno, "msync", absl::StrFormat("of memory slot %u", slot));
  return absl::OkStatus();
}

absl::Status MemorySlots::Madvise(MemorySlot slot, uint64_t offset, uint64_t size, int advice) {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(Entry * entry, FindPart(slot, offset, size));
  if (madvise(entry->mapping.host + offset, size, advice) != 0)
    return PosixStatus(errno, "madvise", absl::StrFormat("%d of memory slot %u", advice, slot));
  if (advice == MADV_REMOVE) NoteWrites(entry, offset, size);
  return absl::OkStatus();
}

absl::Status MemorySlots::SetDirtyLogging(MemorySlot slot, bool enabled) {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(Entry * entry, Find(slot));
  if (dirty_log_open_) return OwnedByDirtyLog();
  return SetLogging(entry, enabled);
}

absl::Status MemorySlots::SetLogging(Entry* entry, bool on) {
  if (entry->mapping.log_dirty_pages == on) return absl::OkStatus();
  SlotMapping changed = entry->mapping;
  changed.log_dirty_pages = on;
  RETURN_IF_ERROR(apply_(changed));
  entry->mapping = changed;
  return absl::OkStatus();
}

absl::Status MemorySlots::OpenDirtyLog() {
  MutexLock lock(&mutex_);
  if (dirty_log_open_) return AlreadyThere("the VM has a dirty log");
  for (const auto& [slot, entry] : entries_)
    if (entry.mapping.log_dirty_pages)
      return absl::FailedPreconditionError(
          absl::StrFormat("memory slot %u logs dirty pages for somebody else", slot));
  dirty_log_open_ = true;
  return absl::OkStatus();
}

void MemorySlots::CloseDirtyLog() {
  MutexLock lock(&mutex_);
  dirty_log_open_ = log_new_slots_ = false;
  for (auto& [slot, entry] : entries_) {
    StopNoting(&entry);
    const absl::Status status = SetLogging(&entry, false);
    if (!status.ok())
      Log(LogLevel::kWarning, "a memory slot goes on logging dirty pages",
          {{"slot", std::to_string(slot)}, {"error", status.ToString()}});
  }
}

std::vector<SlotMapping> MemorySlots::Slots() {
  MutexLock lock(&mutex_);
  std::vector<SlotMapping> slots;
  for (const auto& [slot, entry] : entries_) slots.push_back(entry.mapping);
  return slots;
}

absl::StatusOr<MemorySlots::Entry*> MemorySlots::FindUse(const SlotMapping& slot) {
  ASSIGN_OR_RETURN(Entry * entry, Find(slot.slot));
  if (entry->mapping.serial != slot.serial) return UnknownSlot(slot.slot);
  return entry;
}

absl::Status MemorySlots::LogSlot(const SlotMapping& slot, bool on) {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(Entry * entry, FindUse(slot));
  RETURN_IF_ERROR(SetLogging(entry, on));
  StopNoting(entry);
  entry->note_writes = on;
  return absl::OkStatus();
}

void MemorySlots::LogNewSlots(bool on) {
  MutexLock lock(&mutex_);
  log_new_slots_ = on;
}

absl::Status MemorySlots::WithSlot(const SlotMapping& slot,
                                   const std::function<absl::Status()>& use) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(FindUse(slot).status());
  return use();
}

void MemorySlots::StopNoting(Entry* entry) {
  entry->note_writes = entry->written = false;
  entry->writes = {};
}

void MemorySlots::NoteWrites(Entry* entry, uint64_t offset, uint64_t size) {
  if (!entry->note_writes || size == 0) return;
  entry->writes.resize(PageWordCount(PagesOf(entry->mapping.range.size)));
  const uint64_t first = offset / PageSize();
  entry->written = true;
  SetPages(entry->writes, first, (offset + size - 1) / PageSize() - first + 1);
}

absl::Status MemorySlots::MarkDirty(uint64_t address, uint64_t size) {
  if (size != 0 && address + (size - 1) < address)
    return Wraps(absl::StrFormat("%#x bytes at %#x", size, address));
  MutexLock lock(&mutex_);
  uint64_t found = 0;
  for (auto& [slot, entry] : entries_) {
    const GuestRange& range = entry.mapping.range;
    const uint64_t from = std::max(address, range.start);
    const uint64_t to = std::min(address + size, range.end());
    if (from >= to) continue;
    NoteWrites(&entry, from - range.start, to - from);
    found += to - from;
  }
  if (found == size) return absl::OkStatus();
  return OutsideRegion(absl::StrFormat("%#x bytes at %#x: not all is memory", size, address));
}

absl::StatusOr<bool> MemorySlots::TakeWrites(const SlotMapping& slot, std::span<uint64_t> words) {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(Entry * entry, FindUse(slot));
  if (!std::exchange(entry->written, false)) return false;
  MoveWords(words, entry->writes);
  return true;
}

absl::Status MemorySlots::AddFdMapping(MemorySlot slot, uint64_t offset, uint64_t size,
                                       const Fd& fd, uint64_t fd_offset, Protection protection) {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(Entry * entry, FindPart(slot, offset, size));
  if (!fd.valid()) return Malformed("mapping of no file");
  if (size == 0 || !Aligned(fd_offset))
    return Malformed(absl::StrFormat("mapping of %#x bytes from %#x: not whole pages, or none",
                                     size, fd_offset));
  if (fd_offset > INT64_MAX - size)
    return Wraps(absl::StrFormat("mapping of %#x bytes from %#x of a file", size, fd_offset));
  RETURN_IF_ERROR(entry->region->AddMapping(offset, size, fd, fd_offset, protection));
  NoteWrites(entry, offset, size);
  return absl::OkStatus();
}

absl::Status MemorySlots::RemoveMapping(MemorySlot slot, uint64_t offset, uint64_t size) {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(Entry * entry, FindPart(slot, offset, size));
  if (size == 0) return Malformed("removing a mapping of no bytes");
  RETURN_IF_ERROR(entry->region->RemoveMapping(offset, size));
  NoteWrites(entry, offset, size);
  return absl::OkStatus();
}

absl::Status MemorySlots::GetDirtyLog(MemorySlot slot, std::span<uint8_t> bitmap,
                                      const ReadBitmap& read) {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(Entry * entry, Find(slot));
  if (dirty_log_open_) return OwnedByDirtyLog();
  const uint64_t needed = DirtyLogBytes(entry->mapping.range.size);
  if (bitmap.size() < needed)
    return Malformed(absl::StrFormat("dirty bitmap of %u bytes for memory slot %u: needs %u",
                                     bitmap.size(), slot, needed));
  if (!entry->mapping.log_dirty_pages)
    return absl::FailedPreconditionError(
        absl::StrFormat("memory slot %u does not log dirty pages", slot));
  const uint64_t whole_words = (needed + 7) / 8 * 8;
  if (bitmap.size() < whole_words) {
    std::vector<uint8_t> words(whole_words);
    RETURN_IF_ERROR(read(slot, words));
    std::copy_n(words.begin(), bitmap.size(), bitmap.begin());
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(read(slot, bitmap.first(whole_words)));
  std::fill(bitmap.begin() + static_cast<ptrdiff_t>(whole_words), bitmap.end(), 0);
  return absl::OkStatus();
}

}  // namespace drover
