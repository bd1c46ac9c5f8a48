#include <cpuid.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/kvm_ioctl.h"

namespace drover {
namespace {

// Leaves (Intel SDM vol. 2A CPUID; AMD APM vol. 3 appendix E).
constexpr uint32_t kFeatures = 1;
constexpr uint32_t kIntelCaches = 4;
constexpr uint32_t kMonitor = 5;
constexpr uint32_t kStructuredFeatures = 7;
constexpr uint32_t kPmu = 0xA;
constexpr uint32_t kTopology = 0xB;
constexpr uint32_t kSgx = 0x12;
constexpr uint32_t kTopologyV2 = 0x1F;
constexpr uint32_t kHypervisor = 0x40000000;
constexpr uint32_t kKvmFeatures = 0x40000001;
constexpr uint32_t kHypervisorTiming = 0x40000010;
constexpr uint32_t kExtended = 0x80000000;
constexpr uint32_t kAmdFeatures = 0x80000001;
constexpr uint32_t kAmdSizes = 0x80000008;
constexpr uint32_t kAmdCaches = 0x8000001D;
constexpr uint32_t kAmdTopology = 0x8000001E;
constexpr uint32_t kAmdPmu = 0x80000022;
constexpr uint32_t kAmdMaxLeaf = 0x80000025;  // 0x80000026 is topology again: leaf 0xB tells it

// Leaf 1.
constexpr uint32_t kEcxMonitor = 1u << 3;
constexpr uint32_t kEcxPdcm = 1u << 15;
constexpr uint32_t kEcxDca = 1u << 18;
constexpr uint32_t kEcxX2Apic = 1u << 21;
constexpr uint32_t kEcxTscDeadline = 1u << 24;
constexpr uint32_t kEcxOsxsave = 1u << 27;
constexpr uint32_t kEcxHypervisor = 1u << 31;
constexpr uint32_t kEdxHtt = 1u << 28;
// Leaf 7.
constexpr uint32_t kEbxSgx = 1u << 2;
constexpr uint32_t kEcxOspke = 1u << 4;
constexpr uint32_t kEcxSgxLaunch = 1u << 30;
// Leaf 0x80000001.
constexpr uint32_t kEcxCmpLegacy = 1u << 1;
constexpr uint32_t kEcxAmdPerf = 1u << 23 | 1u << 24 | 1u << 28;  // core, NB, L2I counters
constexpr uint32_t kEcxMwaitx = 1u << 29;

constexpr uint32_t kApicBusKhz = 1'000'000;  // KVM's local APIC timer counts nanoseconds

uint32_t ApicIdBits(uint32_t vcpu_count) {
  return static_cast<uint32_t>(std::bit_width(vcpu_count - 1));
}

bool IsRemoved(uint32_t leaf) {
  return leaf == kTopology || leaf == kTopologyV2 || leaf == kHypervisorTiming ||
         leaf > kAmdMaxLeaf || leaf == kSgx;
}

void Zero(struct kvm_cpuid_entry2* e) { e->eax = e->ebx = e->ecx = e->edx = 0; }

void FixFeatures(struct kvm_cpuid_entry2* e, const CpuidOptions& options) {
  const uint32_t logical = std::min<uint32_t>(options.vcpu_count, 255);
  e->ebx = (e->ebx & 0xFFFF) | logical << 16 | (options.vcpu_id & 0xFF) << 24;
  e->ecx &= ~(kEcxMonitor | kEcxPdcm | kEcxDca | kEcxOsxsave | kEcxTscDeadline);
  e->ecx |= kEcxHypervisor;
  if (options.irqchip) e->ecx |= kEcxX2Apic;
  if (options.tsc_deadline_timer && options.irqchip) e->ecx |= kEcxTscDeadline;
  e->edx = options.vcpu_count > 1 ? e->edx | kEdxHtt : e->edx & ~kEdxHtt;
}

// EAX[25:14] = threads that share the cache, less 1; the last level is everybody's.
void FixCacheSharing(struct kvm_cpuid_entry2* e, uint32_t last_level_threads) {
  const uint32_t level = e->eax >> 5 & 7;
  if ((e->eax & 0x1F) == 0) return;
  const uint32_t threads = level >= 3 ? last_level_threads : 1;
  e->eax = (e->eax & ~(0xFFFu << 14)) | (threads - 1) << 14;
}

void FixIntelCaches(struct kvm_cpuid_entry2* e, const CpuidOptions& options) {
  if ((e->eax & 0x1F) == 0) return;
  FixCacheSharing(e, std::bit_ceil(options.vcpu_count));
  const uint32_t cores = std::min<uint32_t>(std::bit_ceil(options.vcpu_count), 64);
  e->eax = (e->eax & 0x03FFFFFF) | (cores - 1) << 26;
}

void FixAmdFeatures(struct kvm_cpuid_entry2* e, const CpuidOptions& options) {
  e->ecx &= ~(kEcxAmdPerf | kEcxMwaitx | kEcxCmpLegacy);
  if (options.vcpu_count > 1) e->ecx |= kEcxCmpLegacy;
}

void FixAmdSizes(struct kvm_cpuid_entry2* e, const CpuidOptions& options) {
  e->ecx = std::min<uint32_t>(options.vcpu_count - 1, 255) | ApicIdBits(options.vcpu_count) << 12;
}

void FixAmdTopology(struct kvm_cpuid_entry2* e, const CpuidOptions& options) {
  e->eax = options.vcpu_id;
  e->ebx = options.vcpu_id & 0xFF;  // core id; one thread a core
  e->ecx = 0;                       // node 0 of 1
  e->edx = 0;
}

void FixEntry(struct kvm_cpuid_entry2* e, const CpuidOptions& options, bool amd) {
  switch (e->function) {
    case kFeatures:
      return FixFeatures(e, options);
    case kIntelCaches:
      return FixIntelCaches(e, options);
    case kMonitor:
    case kPmu:
    case kAmdPmu:
      return Zero(e);
    case kStructuredFeatures:
      if (e->index == 0) e->ebx &= ~kEbxSgx, e->ecx &= ~(kEcxSgxLaunch | kEcxOspke);
      return;
    case kHypervisor:
      e->eax = kHypervisorTiming;
      return;
    case kKvmFeatures:
      e->edx = 0;  // no hints: vCPUs share their host's processors
      return;
    case kExtended:
      e->eax = std::min(e->eax, kAmdMaxLeaf);
      return;
    case kAmdFeatures:
      if (amd) FixAmdFeatures(e, options);
      return;
    case kAmdSizes:
      if (amd) FixAmdSizes(e, options);
      return;
    case kAmdCaches:
      return FixCacheSharing(e, options.vcpu_count);
    case kAmdTopology:
      return FixAmdTopology(e, options);
    default:
      return;
  }
}

struct kvm_cpuid_entry2 Indexed(uint32_t leaf, uint32_t index) {
  return {.function = leaf, .index = index, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
}

// Leaves 0xB and 0x1F: the thread level (one a core), the core level (the package), the end.
void AppendTopology(uint32_t leaf, const CpuidOptions& options, CpuidEntries* out) {
  constexpr uint32_t kEnd = 0, kThread = 1, kCore = 2;
  const struct {
    uint32_t type, shift, threads;
  } levels[] = {
      {kThread, 0, 1}, {kCore, ApicIdBits(options.vcpu_count), options.vcpu_count}, {kEnd, 0, 0}};
  for (uint32_t index = 0; index < std::size(levels); ++index) {
    struct kvm_cpuid_entry2 e = Indexed(leaf, index);
    e.eax = levels[index].shift;
    e.ebx = levels[index].threads;
    e.ecx = index | levels[index].type << 8;
    e.edx = options.vcpu_id;
    out->push_back(e);
  }
}

// The signature leaf, where KVM did not list it.
void EnsureHypervisorLeaf(CpuidEntries* out) {
  if (FindCpuid(*out, kHypervisor) != nullptr) return;
  struct kvm_cpuid_entry2 e = {.function = kHypervisor, .eax = kHypervisorTiming};
  memcpy(&e.ebx, "KVMK", 4);
  memcpy(&e.ecx, "VMKV", 4);
  memcpy(&e.edx, "M\0\0\0", 4);
  out->push_back(e);
}

uint32_t MaxBasicLeaf(const CpuidEntries& entries) {
  const struct kvm_cpuid_entry2* e = FindCpuid(entries, 0);
  return e == nullptr ? 0 : e->eax;
}

}  // namespace

absl::StatusOr<CpuidEntries> GetSupportedCpuid(int kvm_fd, uint32_t room) {
  for (;; room *= 2) {
    const size_t bytes = sizeof(struct kvm_cpuid2) + room * sizeof(struct kvm_cpuid_entry2);
    const std::unique_ptr<uint64_t[]> buffer(new uint64_t[bytes / 8 + 1]());
    auto* cpuid = reinterpret_cast<struct kvm_cpuid2*>(buffer.get());
    cpuid->nent = room;
    const absl::Status status =
        KvmIoctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid, "KVM_GET_SUPPORTED_CPUID");
    if (status.ok()) return CpuidEntries(cpuid->entries, cpuid->entries + cpuid->nent);
    if (PosixErrno(status) != std::optional<int>(E2BIG) || room > 4096) return status;
  }
}

uint32_t HostPhysicalBits() {
  uint32_t eax, ebx, ecx, edx;
  if (!__get_cpuid(kAmdSizes, &eax, &ebx, &ecx, &edx) || (eax & 0xFF) == 0) return 36;
  return eax & 0xFF;
}

CpuidEntries BuildCpuid(const CpuidEntries& supported, const CpuidOptions& options) {
  const bool amd = IsAmd(supported);
  CpuidEntries out;
  out.reserve(supported.size() + 8);
  for (const struct kvm_cpuid_entry2& entry : supported) {
    if (IsRemoved(entry.function)) continue;
    out.push_back(entry);
    FixEntry(&out.back(), options, amd);
  }
  for (const uint32_t leaf : {kTopology, kTopologyV2})
    if (MaxBasicLeaf(out) >= leaf) AppendTopology(leaf, options, &out);
  EnsureHypervisorLeaf(&out);
  out.push_back({.function = kHypervisorTiming, .eax = options.tsc_khz, .ebx = kApicBusKhz});
  return out;
}

const struct kvm_cpuid_entry2* FindCpuid(const CpuidEntries& entries, uint32_t leaf,
                                         uint32_t subleaf) {
  for (const struct kvm_cpuid_entry2& entry : entries) {
    const bool indexed = (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;
    if (entry.function == leaf && (!indexed || entry.index == subleaf)) return &entry;
  }
  return nullptr;
}

bool IsAmd(const CpuidEntries& entries) {
  const struct kvm_cpuid_entry2* e = FindCpuid(entries, 0);
  if (e == nullptr) return false;
  return memcmp(&e->ebx, "Auth", 4) == 0 || memcmp(&e->ebx, "Hygo", 4) == 0;
}

}  // namespace drover
