#ifndef DROVER_VMM_CORE_DIRTY_LOG_H_
#define DROVER_VMM_CORE_DIRTY_LOG_H_

#include <cstdint>
#include <map>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/mutex.h"
#include "vmm/core/dirty_source.h"
#include "vmm/core/page_set.h"
#include "vmm/core/vm.h"

namespace drover {

// The one record of which pages of a VM's memory were written: by vCPUs (KVM's bitmap or ring), by
// the VMM (GuestMemory's write tracking) and by devices (MarkDirty), merged. The VM has at most
// one; its owner is whoever snapshots or migrates the VM.
//
// What is promised: a page that was written after Start returned is in a harvest that begins after
// the write, or in an earlier one that had not returned when it was written. So whoever copies each
// page after the harvest that names it, and stops the vCPUs and devices before the last harvest,
// has all bytes. A vCPU's write may come one or more harvests late while that vCPU stays in Run
// (the processor's own buffer, ring only); never later than the first harvest after its Run
// returned.
//
// Extra pages come only so: all of a slot with DirtyStart::kAll; all of a region that was added
// while the whole log runs, once; a page written while Start or a harvest ran, twice; a page of a
// region removed and added again at the same place; with DirtyClear::kLater, pages not yet rearmed;
// pages that vCPUs write without the guest's doing (KVM's clock and steal-time pages, the accessed
// bits of page tables); and pages that a vCPU only read, where KVM maps them writable at that
// moment, which it counts as a write.
//
// Thread-safe: any thread may call any method at any time, vCPUs running. Lock order: DirtyLog,
// then MemorySlots. vCPU threads take the first only in HandleRingFull; MarkDirty takes the second,
// which is held for as long as KVM reads or clears a bitmap; GuestMemory::Write and MarkDirty,
// which serve the initial RAM, take none.
class DirtyLog {
 public:
  struct Options {
    Vm* vm = nullptr;  // its machine lives as long as the log
    DirtySourceOptions source;
  };

  // Before there are vCPUs, if it may be a ring. ALREADY_EXISTS while the VM has another log;
  // FAILED_PRECONDITION when a slot logs without one; otherwise as ChooseDirtyLog. A fallback is
  // logged.
  static absl::StatusOr<std::unique_ptr<DirtyLog>> Create(const Options& options);
  // Stops. No other call is under way.
  ~DirtyLog();

  const DirtyLogChoice& choice() const { return source_->choice(); }

  // Starts every slot that does not log yet, and those added from now on. FAILED_PRECONDITION when
  // the whole log runs already; after another error nothing more logs than before.
  absl::Status Start(DirtyStart start = DirtyStart::kClean);
  // Ends all logging and forgets pages not harvested. OK when nothing runs.
  absl::Status Stop();
  // Adds all pages written since the last harvest to `pages`, whose regions become those that log
  // (others are left as they are). FAILED_PRECONDITION when nothing logs. After an error no page is
  // lost: the next harvest gives them.
  absl::Status Harvest(PageSet* pages, DirtyClear clear = DirtyClear::kNow);

  // The same for one slot. NOT_FOUND for a slot without memory; FAILED_PRECONDITION when it logs
  // already, or not.
  absl::Status StartSlot(MemorySlot slot, DirtyStart start = DirtyStart::kClean);
  absl::Status StopSlot(MemorySlot slot);
  absl::Status HarvestSlot(MemorySlot slot, PageSet* pages, DirtyClear clear = DirtyClear::kNow);

  // Watches those pages of `pages` again that are in pages [first, first + count) of `slot`, after
  // a harvest with kLater and before they are read; `first` is a multiple of 64. Nothing to do with
  // kNow. NOT_FOUND when the slot does not log; OUT_OF_RANGE.
  absl::Status Rearm(const PageSet& pages, MemorySlot slot, uint64_t first, uint64_t count);

  // A device or the VMM wrote [address, address + size) through host addresses, before this call.
  // OUT_OF_RANGE when some of it is no memory; the rest is noted.
  absl::Status MarkDirty(uint64_t address, uint64_t size);

  // What a vCPU's thread calls on DirtyRingFullExit, before it runs on.
  absl::Status HandleRingFull();

 private:
  // One slot that logs, with what was taken from a source and not harvested.
  struct SlotLog {
    SlotMapping mapping;
    bool all = false;        // every page; `pending` does not say so yet
    bool any = false;        // some bit of `pending` is set
    PageWords pending = {};  // empty until the first harvest, so that a start costs no memory
  };

  DirtyLog(std::unique_ptr<DirtySource> source, GuestMemory* memory);

  absl::StatusOr<SlotMapping> FindSlot(MemorySlot slot);
  // `watched`: something logged before, so that the sources may know of old writes to the slot.
  absl::Status StartOne(const SlotMapping& slot, DirtyStart start, bool watched)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status ForgetOldPages(SlotLog* log) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status StartAll(DirtyStart start) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status StopOne(MemorySlot slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status StopAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Forgets slots that are gone; while the whole log runs, takes in those that came.
  void FollowSlots() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Pages from all sources into `pending`, of one slot or of all.
  absl::Status Collect(const MemorySlot* only, DirtyClear clear)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CollectVcpus(const MemorySlot* only, DirtyClear clear)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void FillIn(SlotLog* log);
  // Moves what is pending to `pages`.
  static void Give(SlotLog* log, PageSet* pages);
  void CollectWrites(SlotLog* log) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  GuestMemory* const memory_;  // the source keeps it alive
  const std::unique_ptr<DirtySource> source_;
  Mutex mutex_;
  std::map<MemorySlot, SlotLog> logs_ ABSL_GUARDED_BY(mutex_);
  bool whole_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_DIRTY_LOG_H_
