#ifndef DROVER_VMM_CORE_MEMORY_SLOTS_H_
#define DROVER_VMM_CORE_MEMORY_SLOTS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/mutex.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/memory_region.h"
#include "vmm/core/page_bitmap.h"

namespace drover {

// What a backend is told about one slot; `range.size` 0 removes it.
struct SlotMapping {
  MemorySlot slot = 0;
  GuestRange range;
  uint8_t* host = nullptr;
  bool read_only = false;
  bool log_dirty_pages = false;
  CacheType cache = CacheType::kCoherent;
  uint64_t serial = 0;  // of this use of the slot; never given twice in a VM
};

// A VM's memory slots, the same for every backend: who owns which region where, all argument checks
// of the Vm methods on memory (vm.h), and the choice of slots. Thread-safe: one lock, held while
// the backend changes a slot, so that the table and the backend never disagree.
class MemorySlots {
 public:
  // Makes the backend see the slot so; on an error nothing may have changed.
  using Apply = std::function<absl::Status(const SlotMapping&)>;

  // At most `limit` slots at a time.
  MemorySlots(std::unique_ptr<GuestMemory> memory, uint32_t limit, Apply apply);

  // Puts the initial RAM into slots 0, 1, ...; call once, first.
  absl::Status MapInitialMemory();

  GuestMemory& memory() { return *memory_; }

  // As the methods of Vm of the same name.
  absl::StatusOr<MemorySlot> Add(uint64_t address, std::unique_ptr<MemoryRegion> region,
                                 bool read_only, bool log_dirty_pages, CacheType cache);
  absl::StatusOr<std::unique_ptr<MemoryRegion>> Remove(MemorySlot slot);
  absl::Status Msync(MemorySlot slot, uint64_t offset, uint64_t size);
  absl::Status Madvise(MemorySlot slot, uint64_t offset, uint64_t size, int advice);
  absl::Status SetDirtyLogging(MemorySlot slot, bool enabled);
  absl::Status AddFdMapping(MemorySlot slot, uint64_t offset, uint64_t size, const Fd& fd,
                            uint64_t fd_offset, Protection protection);
  absl::Status RemoveMapping(MemorySlot slot, uint64_t offset, uint64_t size);

  // Checks GetDirtyLog's arguments and calls `read` with a bitmap of whole 64-bit words, as KVM
  // writes it; bytes of `bitmap` beyond the slot's pages become 0.
  using ReadBitmap = std::function<absl::Status(MemorySlot, std::span<uint8_t>)>;
  absl::Status GetDirtyLog(MemorySlot slot, std::span<uint8_t> bitmap, const ReadBitmap& read);

  // What the VM's one DirtyLog (dirty_log.h) needs. While it is open, SetDirtyLogging, GetDirtyLog
  // and adding a region with log_dirty_pages are FAILED_PRECONDITION: two readers would take each
  // other's pages. ALREADY_EXISTS when it is open; FAILED_PRECONDITION where a slot logs already.
  absl::Status OpenDirtyLog();
  // No slot logs any more.
  void CloseDirtyLog();
  // All slots as they are, ascending.
  std::vector<SlotMapping> Slots();
  // Turns logging of exactly this use of a slot on or off; NOT_FOUND when the slot is another's.
  absl::Status LogSlot(const SlotMapping& slot, bool on);
  // Whether regions that are added log from their beginning.
  void LogNewSlots(bool on);
  // Calls `use` while nothing can happen to this use of the slot; NOT_FOUND when it is another's.
  absl::Status WithSlot(const SlotMapping& slot, const std::function<absl::Status()>& use);
  // Notes pages that were written through host addresses, as far as their slots log. OUT_OF_RANGE
  // when no region has some byte of [address, address + size); the rest is noted.
  absl::Status MarkDirty(uint64_t address, uint64_t size);
  // ORs the slot's pages that MarkDirty and the calls on parts of regions noted into `words`, and
  // forgets them. Returns whether there were any.
  absl::StatusOr<bool> TakeWrites(const SlotMapping& slot, std::span<uint64_t> words);

 private:
  struct Entry {
    SlotMapping mapping;
    std::unique_ptr<MemoryRegion> region;
    bool note_writes = false;  // it logs for the DirtyLog
    bool written = false;      // some bit of `writes` is set
    PageWords writes = {};     // by the VMM; empty before the first
  };

  absl::Status CheckFree(const GuestRange& range) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<MemorySlot> SmallestFree() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<MemorySlot> Insert(SlotMapping mapping, std::unique_ptr<MemoryRegion> region)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status SetLogging(Entry* entry, bool on) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void StopNoting(Entry* entry);
  void NoteWrites(Entry* entry, uint64_t offset, uint64_t size)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Entry*> Find(MemorySlot slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Entry*> FindUse(const SlotMapping& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The slot's entry, when [offset, offset + size) are whole pages within it.
  absl::StatusOr<Entry*> FindPart(MemorySlot slot, uint64_t offset, uint64_t size)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::shared_ptr<GuestMemory> memory_;
  const uint32_t limit_;
  const Apply apply_;
  Mutex mutex_;
  std::map<MemorySlot, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_serial_ ABSL_GUARDED_BY(mutex_) = 0;
  bool dirty_log_open_ ABSL_GUARDED_BY(mutex_) = false;
  bool log_new_slots_ ABSL_GUARDED_BY(mutex_) = false;
};

// Bytes that GetDirtyLog needs for `size` bytes of memory: one bit a page, rounded up.
uint64_t DirtyLogBytes(uint64_t size);

}  // namespace drover

#endif  // DROVER_VMM_CORE_MEMORY_SLOTS_H_
