#ifndef DROVER_VMM_CORE_VM_PLAN_H_
#define DROVER_VMM_CORE_VM_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "vmm/core/capabilities.h"
#include "vmm/core/guest_memory.h"

namespace drover {

// What a VM may ask of its host. In a wish kUnspecified leaves the choice to Drover; in a VmPlan it
// says that the host cannot do it at all. The numbers are drover.v1's.
enum class MemoryPages { kUnspecified, k4K, k2M };               // 2M: hugetlb, reserved at start
enum class DirtyLogMode { kUnspecified, kBitmap, kRing };        // as DirtyLogWish
enum class SnapshotMode { kUnspecified, kPaused, kLive };        // live: write-protected pages
enum class MigrationMode { kUnspecified, kPreCopy, kPostCopy };  // post-copy: after a pre-copy

// A preference, or with `required` a condition.
template <typename T>
struct Wish {
  T value = T::kUnspecified;
  bool required = false;
  bool operator==(const Wish&) const = default;
};

struct VmFeatures {
  Wish<MemoryPages> memory_pages;
  Wish<DirtyLogMode> dirty_log;
  Wish<SnapshotMode> snapshots;
  Wish<MigrationMode> migration;
  bool operator==(const VmFeatures&) const = default;
};

// A capability without which one part of a machine cannot be, such as a device's irqfd.
struct CapabilityNeed {
  std::string field;  // of the API's request, such as vm.spec.disks[0]
  std::string capability;
  std::string what;  // that needs it, for the message
};

struct VmConfig {
  uint32_t vcpus = 0;
  uint64_t memory_bytes = 0;
  VmFeatures features;
  std::vector<CapabilityNeed> needs;
};

// A preference that the host could not serve, and what is used instead.
struct Fallback {
  std::string field;
  std::string wanted;
  std::string taken;
  std::string capability;  // the missing one
  std::string reason;      // for a person
  bool operator==(const Fallback&) const = default;
};

// What a VM is given of what it asked for.
struct VmPlan {
  MemoryPages memory_pages = MemoryPages::kUnspecified;
  DirtyLogMode dirty_log = DirtyLogMode::kUnspecified;
  SnapshotMode snapshots = SnapshotMode::kUnspecified;
  MigrationMode migration = MigrationMode::kUnspecified;
  std::vector<Fallback> fallbacks;
  bool operator==(const VmPlan&) const = default;
};

// Why a VM cannot be: the field at fault and the missing capability.
struct Refusal {
  std::string field;
  std::string capability;  // "" where no host could do it
  std::string message;
  std::string reason;  // CAPABILITY_MISSING, VCPUS_UNSUPPORTED or MEMORY_UNSUPPORTED
  bool operator==(const Refusal&) const = default;
};

struct VmResolution {
  VmPlan plan;
  std::vector<GuestRange> ram;    // empty when the memory is refused
  std::vector<Refusal> refusals;  // every one; empty: the VM can be
};

// Holds a VM's configuration against what the host can do, before anything is made: the agent at
// the create, the worker again before it builds. The one place that knows fallbacks:
//   2 MiB pages -> 4 KiB pages       without hugetlb_2mib
//   dirty ring -> bitmap             without dirty_ring_bytes
//   live snapshot -> paused          without userfaultfd, userfaultfd_wp_shmem (2 MiB pages:
//   _wp_hugetlb) post-copy -> pre-copy            without postcopy_restore, userfaultfd (2 MiB:
//   _missing_hugetlb)
// Each is taken for a preference, and is a refusal for what is required. A bitmap, a ring or a
// migration that is asked for in a host without dirty_page_tracking has no fallback.
VmResolution ResolveVm(const VmConfig& config, const BackendCapabilities& host);

// OK without refusals; INVALID_ARGUMENT with all messages, and the reason, field and capability of
// the first.
absl::Status RefusalStatus(const std::vector<Refusal>& refusals);

// What the absence of a capability means for a VM.
enum class CapabilityUse {
  kRequired,  // no machine can be
  kLimit,     // bounds the configuration: 0 refuses, or leaves least
  kFallback,  // a wish for it falls back, or is refused where it is required
  kNeed,      // refused where a part of the machine needs it (CapabilityNeed); none does so far
  kChoice,    // changes how something is done, never whether
  kUnused,    // nothing depends on it so far
};
struct CapabilityUsage {
  const char* name;
  CapabilityUse use;
  const char* meaning;
};
// One for each of BackendCapabilities::Names().
const std::vector<CapabilityUsage>& CapabilityUsages();

const char* NameOf(MemoryPages pages);
const char* NameOf(DirtyLogMode mode);
const char* NameOf(SnapshotMode mode);
const char* NameOf(MigrationMode mode);

}  // namespace drover

#endif  // DROVER_VMM_CORE_VM_PLAN_H_
