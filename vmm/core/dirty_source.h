#ifndef DROVER_VMM_CORE_DIRTY_SOURCE_H_
#define DROVER_VMM_CORE_DIRTY_SOURCE_H_

#include <cstdint>
#include <ostream>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/core/capabilities.h"
#include "vmm/core/memory_slots.h"

namespace drover {

// How a backend notes the pages that vCPUs write: a bitmap for each memory slot (KVM api.rst
// KVM_GET_DIRTY_LOG), or a ring of page numbers for each vCPU (KVM_CAP_DIRTY_LOG_RING_ACQ_REL).
enum class DirtyLogKind { kBitmap, kRing };
enum class DirtyLogWish { kAuto, kBitmap, kRing };

// Why the kind that is used is used. The last three are fallbacks.
enum class DirtyLogReason {
  kAsked,
  kAutomatic,      // see ChooseDirtyLog
  kRingAlreadyOn,  // an earlier log turned this VM's rings on, and then there is no way back
  kNoRing,         // the host has none, or it is withheld
  kVcpusExist,     // rings can only be turned on before there are vCPUs
  kRingRefused,    // the host offered rings and refused them when asked
};

struct DirtyLogChoice {
  DirtyLogKind kind = DirtyLogKind::kBitmap;
  DirtyLogReason reason = DirtyLogReason::kAutomatic;
  bool manual_protect = false;  // bitmap: read and clear are two calls
  bool initially_set = false;   // bitmap: a log of all pages begins without protecting each
  uint32_t ring_pages = 0;      // ring: entries for each vCPU

  // The wish was another.
  bool fallback() const { return reason >= DirtyLogReason::kNoRing; }
  bool operator==(const DirtyLogChoice&) const = default;
};

struct DirtySourceOptions {
  DirtyLogWish kind = DirtyLogWish::kAuto;
  // Of each vCPU's ring, a power of two; 0, or more than the host has: as large as it has.
  uint32_t ring_bytes = 0;
  // False: as on a host without it.
  bool manual_protect = true;
};

// What is on in a VM when its log is made.
struct DirtyLogSituation {
  bool ring_on = false;
  bool has_vcpus = false;
};

// The rule of all backends. Automatic is the bitmap where it has manual protect, because a log of
// all pages then begins at once and reading 1 GiB costs microseconds while nothing is written; and
// otherwise the ring, where there is one and no vCPU yet. INVALID_ARGUMENT for a ring whose size is
// no power of two or under a page; UNIMPLEMENTED where the host has no dirty log at all.
absl::StatusOr<DirtyLogChoice> ChooseDirtyLog(const DirtySourceOptions& options,
                                              const BackendCapabilities& host,
                                              const DirtyLogSituation& situation);

// What remains when the host then refuses the ring.
DirtyLogChoice RefusedRing(const DirtySourceOptions& options, const BackendCapabilities& host);

// Which pages a log gives first.
enum class DirtyStart {
  kClean,  // those that are written from now on
  kAll,    // every page of the slot, at the first harvest, and then those that were written
};

// When pages that were read from the log are watched again.
enum class DirtyClear {
  kNow,
  kLater,  // by Rearm, before each is read: shorter stalls of vCPUs, fewer pages taken twice
};

inline constexpr uint32_t kDirtyRingEntryBytes = 16;  // struct kvm_dirty_gfn

const char* NameOf(DirtyLogKind kind);
const char* NameOf(DirtyLogReason reason);
std::ostream& operator<<(std::ostream& out, const DirtyLogChoice& choice);

// What a backend knows of the pages that vCPUs wrote, for the VM's one DirtyLog, which calls it
// under its lock. The VM's slots are open to it (MemorySlots::OpenDirtyLog) until it is destroyed.
class DirtySource {
 public:
  // One slot that logs, and where its pages go: bit i for page i.
  struct Slot {
    SlotMapping mapping;
    std::span<uint64_t> words;
    bool* any = nullptr;  // whether a bit is set in `words`: read, and set with the first
  };

  virtual ~DirtySource() = default;
  virtual const DirtyLogChoice& choice() const = 0;
  virtual MemorySlots& slots() = 0;

  // Slots that start to log from now on start so.
  virtual absl::Status Prepare(DirtyStart start) = 0;
  // ORs the pages written since the last call into the slots' words; slots that are gone are left
  // out. A ring source takes what all vCPUs wrote: pages of other slots are lost, so `slots` are
  // all that log. After an error, pages that were taken are in `words`.
  virtual absl::Status Harvest(std::span<const Slot> slots, DirtyClear clear) = 0;
  // Watches these pages again: bit 0 of `words` is page 64 * `first_word`.
  virtual absl::Status Rearm(const SlotMapping& slot, uint64_t first_word,
                             std::span<const uint64_t> words) = 0;
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_DIRTY_SOURCE_H_
