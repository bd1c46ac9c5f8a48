#include "vmm/core/vm_plan.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "vmm/base/status.h"
#include "vmm/core/dirty_source.h"
#include "vmm/core/memory_layout.h"

namespace drover {
namespace {

// One byte of APIC id, without the I/O APIC's and the broadcast.
constexpr uint32_t kMaxVcpus = 254;
constexpr uint32_t kMaxPhysicalBits = 52;
constexpr uint32_t kAssuredPhysicalBits = 32;  // where the host does not say

constexpr char kMachineField[] = "vm.spec";
constexpr char kVcpusField[] = "vm.spec.vcpus";
constexpr char kMemoryField[] = "vm.spec.memory_mib";
constexpr char kPagesField[] = "vm.spec.memory_pages.size";
constexpr char kDirtyLogField[] = "vm.spec.dirty_log.kind";
constexpr char kSnapshotsField[] = "vm.spec.snapshots.mode";
constexpr char kMigrationField[] = "vm.spec.migration.mode";

// One resolution under way.
struct Resolver {
  const VmConfig& config;
  const BackendCapabilities& host;
  VmResolution out;

  void Refuse(const char* field, const std::string& capability, const std::string& message,
              const char* reason = "CAPABILITY_MISSING") {
    out.refusals.push_back({field, capability, message, reason});
  }

  // The first of these that the host has not got; "" when it has them all.
  std::string FirstMissing(std::initializer_list<const char*> capabilities) const {
    for (const char* name : capabilities)
      if (!host.Has(name)) return name;
    return "";
  }

  // `wish` where nothing is missing; otherwise `other`, as a fallback or a refusal.
  template <typename T>
  T Serve(const char* field, const Wish<T>& wish, T other, const std::string& missing) {
    if (missing.empty()) return wish.value;
    const std::string why = host.WhyAbsent(missing);
    if (wish.required)
      Refuse(field, missing, absl::StrCat(NameOf(wish.value), ": required, and ", why));
    else
      out.plan.fallbacks.push_back({field, NameOf(wish.value), NameOf(other), missing, why});
    return other;
  }
};

void CheckMachine(Resolver& r) {
  static constexpr std::pair<const char*, const char*> kNeeded[] = {
      {"exposes_vcpu_exits", "devices answer vCPUs' exits"},
      {"custom_mmio_devices", "the machine's devices are Drover's own"},
      {"immediate_exit", "a vCPU must be stopped without losing its exit"},
      {"irqchip", "the machine has PIC, I/O APIC and local APICs"},
  };
  for (const auto& [capability, why] : kNeeded)
    if (!r.host.Has(capability))
      r.Refuse(kMachineField, capability,
               absl::StrCat(why, ", and ", r.host.WhyAbsent(capability)));
}

void CheckVcpus(Resolver& r) {
  const uint32_t most = std::min(r.host.max_vcpus, kMaxVcpus);
  const uint32_t wanted = r.config.vcpus;
  if (wanted >= 1 && wanted <= most) return;
  const bool hosts = r.host.max_vcpus < kMaxVcpus && wanted >= 1;
  const std::string limit =
      !hosts      ? absl::StrCat("use 1 to ", most, "; a machine has at most ", kMaxVcpus)
      : most == 0 ? r.host.WhyAbsent("max_vcpus")
                  : absl::StrCat("use 1 to ", most, "; the host's capability max_vcpus is ", most);
  r.Refuse(kVcpusField, hosts ? "max_vcpus" : "", absl::StrCat(wanted, " vCPUs asked for: ", limit),
           "VCPUS_UNSUPPORTED");
}

void CheckMemory(Resolver& r) {
  const uint32_t bits = r.host.guest_physical_bits;
  const uint32_t used = bits == 0 ? kAssuredPhysicalBits : std::min(bits, kMaxPhysicalBits);
  absl::StatusOr<std::vector<GuestRange>> ram =
      layout::RamRanges(r.config.memory_bytes, uint64_t{1} << used);
  if (!ram.ok()) {
    const bool anywhere =
        layout::RamRanges(r.config.memory_bytes, uint64_t{1} << kMaxPhysicalBits).ok();
    const std::string why =
        bits == 0 ? absl::StrCat("; ", r.host.WhyAbsent("guest_physical_bits"))
                  : absl::StrCat(" with the host's capability guest_physical_bits ", bits);
    return r.Refuse(kMemoryField, anywhere ? "guest_physical_bits" : "",
                    absl::StrCat(std::string(ram.status().message()), anywhere ? why : ""),
                    "MEMORY_UNSUPPORTED");
  }
  if (ram->size() > r.host.memory_slots)
    return r.Refuse(kMemoryField, "memory_slots",
                    absl::StrCat("the memory takes ", ram->size(), " slots, and ",
                                 r.host.memory_slots == 0
                                     ? r.host.WhyAbsent("memory_slots")
                                     : absl::StrCat("the host's capability memory_slots is ",
                                                    r.host.memory_slots)),
                    "MEMORY_UNSUPPORTED");
  r.out.ram = *std::move(ram);
}

void CheckNeeds(Resolver& r) {
  for (const CapabilityNeed& need : r.config.needs)
    if (!r.host.Has(need.capability))
      r.Refuse(need.field.c_str(), need.capability,
               absl::StrCat(need.what, ": ", r.host.WhyAbsent(need.capability)));
}

void ChooseMemoryPages(Resolver& r) {
  const auto& wish = r.config.features.memory_pages;
  const bool huge = wish.value == MemoryPages::k2M;
  r.out.plan.memory_pages =
      huge ? r.Serve(kPagesField, wish, MemoryPages::k4K, r.FirstMissing({"hugetlb_2mib"}))
           : MemoryPages::k4K;
}

// ChooseDirtyLog knows what is best where nothing is asked for.
void ChooseDirtyLogMode(Resolver& r) {
  const auto& wish = r.config.features.dirty_log;
  DirtyLogMode& mode = r.out.plan.dirty_log;
  if (!r.host.dirty_page_tracking) {
    if (wish.value != DirtyLogMode::kUnspecified)
      r.Refuse(kDirtyLogField, "dirty_page_tracking",
               absl::StrCat(NameOf(wish.value), ": ", r.host.WhyAbsent("dirty_page_tracking")));
    return;
  }
  if (wish.value == DirtyLogMode::kRing) {
    mode =
        r.Serve(kDirtyLogField, wish, DirtyLogMode::kBitmap, r.FirstMissing({"dirty_ring_bytes"}));
    return;
  }
  const absl::StatusOr<DirtyLogChoice> choice =
      ChooseDirtyLog({.kind = static_cast<DirtyLogWish>(wish.value)}, r.host, {});
  const bool ring = choice.ok() && choice->kind == DirtyLogKind::kRing;
  mode = ring ? DirtyLogMode::kRing : DirtyLogMode::kBitmap;
}

void ChooseSnapshots(Resolver& r) {
  const auto& wish = r.config.features.snapshots;
  const bool huge = r.out.plan.memory_pages == MemoryPages::k2M;
  const std::string missing =
      r.FirstMissing({"userfaultfd", huge ? "userfaultfd_wp_hugetlb" : "userfaultfd_wp_shmem"});
  SnapshotMode& mode = r.out.plan.snapshots;
  if (wish.value == SnapshotMode::kLive)
    mode = r.Serve(kSnapshotsField, wish, SnapshotMode::kPaused, missing);
  else if (wish.value == SnapshotMode::kUnspecified && missing.empty())
    mode = SnapshotMode::kLive;
  else
    mode = SnapshotMode::kPaused;
}

void ChooseMigration(Resolver& r) {
  const auto& wish = r.config.features.migration;
  const bool huge = r.out.plan.memory_pages == MemoryPages::k2M;
  if (!r.host.dirty_page_tracking) {
    if (wish.value != MigrationMode::kUnspecified)
      r.Refuse(kMigrationField, "dirty_page_tracking",
               absl::StrCat(NameOf(wish.value), ": ", r.host.WhyAbsent("dirty_page_tracking")));
    return;
  }
  r.out.plan.migration = MigrationMode::kPreCopy;
  if (wish.value == MigrationMode::kPostCopy)
    r.out.plan.migration =
        r.Serve(kMigrationField, wish, MigrationMode::kPreCopy,
                r.FirstMissing({"postcopy_restore", "userfaultfd",
                                huge ? "userfaultfd_missing_hugetlb" : "userfaultfd"}));
}

// In this order: what comes later depends on the pages.
constexpr void (*kSteps[])(Resolver&) = {CheckMachine,    CheckVcpus,        CheckMemory,
                                         CheckNeeds,      ChooseMemoryPages, ChooseDirtyLogMode,
                                         ChooseSnapshots, ChooseMigration};

}  // namespace

VmResolution ResolveVm(const VmConfig& config, const BackendCapabilities& host) {
  Resolver resolver{config, host, {}};
  for (const auto step : kSteps) step(resolver);
  return std::move(resolver.out);
}

absl::Status RefusalStatus(const std::vector<Refusal>& refusals) {
  if (refusals.empty()) return absl::OkStatus();
  absl::Status status = absl::InvalidArgumentError(
      absl::StrJoin(refusals, "; ", [](std::string* out, const Refusal& refusal) {
        absl::StrAppend(out, refusal.field, ": ", refusal.message);
      }));
  const Refusal& first = refusals[0];
  return WithCapability(WithField(WithReason(std::move(status), first.reason), first.field),
                        first.capability);
}

const std::vector<CapabilityUsage>& CapabilityUsages() {
  using enum CapabilityUse;
  static const auto& usages = *new std::vector<CapabilityUsage>{
      {"max_vcpus", kLimit, "vm.spec.vcpus at most; none at 0"},
      {"dirty_page_tracking", kFallback,
       "dirty logs and migration; without it neither, and refused where asked for"},
      {"postcopy_restore", kFallback, "post-copy, else pre-copy"},
      {"exposes_vcpu_exits", kRequired, "devices answer vCPUs' exits"},
      {"custom_mmio_devices", kRequired, "the machine's devices are Drover's own"},
      {"recommended_vcpus", kUnused, "a hint; more vCPUs are allowed"},
      {"memory_slots", kLimit, "pieces of memory; the initial RAM takes one, above 3 GiB two"},
      {"guest_physical_bits", kLimit, "vm.spec.memory_mib; at 0 no memory above 4 GiB"},
      {"dirty_ring_bytes", kFallback, "dirty ring, else bitmap"},
      {"manual_dirty_log_protect", kChoice,
       "bitmap read and cleared in two steps; where nothing "
       "is asked for and it is absent, the ring"},
      {"nested_state_bytes", kUnused, "a nested hypervisor's state in a saved vCPU"},
      {"xsave_bytes", kUnused, "the size of a saved vCPU's FPU state"},
      {"irqchip", kRequired, "interrupt controllers"},
      {"immediate_exit", kRequired, "stopping a vCPU without losing its exit"},
      {"irqfd", kNeed, "a device's interrupts from its own thread"},
      {"irqfd_resample", kNeed, "a device's level-triggered interrupts"},
      {"ioeventfd", kNeed, "a device's notification without an exit"},
      {"ioeventfd_any_length", kNeed, "the same for writes of any width"},
      {"read_only_memory", kNeed, "memory that the guest cannot write"},
      {"tsc_control", kUnused, "a vCPU's TSC frequency other than the host's"},
      {"msr_filter", kUnused, "MSR accesses as exits"},
      {"split_irqchip", kUnused, "PIC and I/O APIC in the VMM"},
      {"coalesced_io", kUnused, "writes gathered before an exit"},
      {"userfaultfd", kFallback, "live snapshots and post-copy, else paused and pre-copy"},
      {"userfaultfd_wp_shmem", kFallback, "live snapshots of 4 KiB pages, else paused"},
      {"userfaultfd_minor_shmem", kUnused, "minor faults of 4 KiB pages"},
      {"userfaultfd_missing_hugetlb", kFallback, "post-copy of 2 MiB pages, else pre-copy"},
      {"userfaultfd_wp_hugetlb", kFallback, "live snapshots of 2 MiB pages, else paused"},
      {"userfaultfd_minor_hugetlb", kUnused, "minor faults of 2 MiB pages"},
      {"hugetlb_2mib", kFallback, "2 MiB pages, else 4 KiB pages"},
      {"kvmclock_realtime", kUnused, "kvmclock moved together with the wall clock"},
  };
  return usages;
}

const char* NameOf(MemoryPages pages) {
  static constexpr const char* kNames[] = {"any pages", "4 KiB pages", "2 MiB pages"};
  return kNames[static_cast<int>(pages)];
}

const char* NameOf(DirtyLogMode mode) {
  static constexpr const char* kNames[] = {"any dirty log", "dirty bitmap", "dirty ring"};
  return kNames[static_cast<int>(mode)];
}

const char* NameOf(SnapshotMode mode) {
  static constexpr const char* kNames[] = {"any snapshot", "paused snapshot", "live snapshot"};
  return kNames[static_cast<int>(mode)];
}

const char* NameOf(MigrationMode mode) {
  static constexpr const char* kNames[] = {"any migration", "pre-copy", "post-copy"};
  return kNames[static_cast<int>(mode)];
}

}  // namespace drover
