#include "vmm/core/vcpu_state_check.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "vmm/base/status.h"
#include "vmm/core/vm_errors.h"

namespace drover {
namespace {

constexpr size_t kMostCpuidEntries = 256;   // KVM_MAX_CPUID_ENTRIES
constexpr size_t kMostXcrs = 16;            // KVM_MAX_XCRS
constexpr size_t kLeastXsaveBytes = 4096;   // struct kvm_xsave
constexpr uint64_t kTscTolerancePpm = 250;  // what KVM, NTP and the guest put up with
constexpr uint64_t kCr0Pe = 1, kCr0Pg = 1u << 31, kCr4Pae = 1 << 5;
constexpr uint64_t kEferLme = 1 << 8, kEferLma = 1 << 10;
constexpr uint32_t kKnownEventFlags = 0xF;  // KVM_VCPUEVENT_VALID_* without capability
constexpr uint8_t kNmiVector = 2, kLastException = 31;

absl::Status Wrong(absl::string_view part, absl::string_view what) {
  return Malformed(absl::StrCat("vCPU state, ", part, ": ", what));
}

template <typename Items>
bool Ascend(const Items& items) {
  return std::ranges::adjacent_find(
             items, [](const auto& a, const auto& b) { return a.index >= b.index; }) == items.end();
}

// CPUID bits that follow the vCPU's registers: OSXSAVE, MWAIT, APIC, OSPKE, sizes of XSAVE areas.
CpuidEntry WithoutRuntimeBits(CpuidEntry e) {
  if (e.leaf == 1) e.ecx &= ~(1u << 27 | 1u << 3), e.edx &= ~(1u << 9);
  if (e.leaf == 7 && e.subleaf == 0) e.ecx &= ~(1u << 4);
  if (e.leaf == 0xD) e.ebx = 0;
  return e;
}

bool SameCpuid(const std::vector<CpuidEntry>& a, const std::vector<CpuidEntry>& b) {
  return std::ranges::equal(a, b, {}, WithoutRuntimeBits, WithoutRuntimeBits);
}

absl::Status CheckCpuid(const VcpuState& state, const VcpuStateLimits& limits) {
  if (state.cpuid.empty() || state.cpuid.size() > kMostCpuidEntries)
    return Wrong("cpuid", absl::StrCat(state.cpuid.size(), " entries"));
  std::set<std::pair<uint32_t, uint32_t>> seen;
  for (const CpuidEntry& entry : state.cpuid) {
    const uint32_t subleaf = entry.flags & CpuidEntry::kSubleafMatters ? entry.subleaf : ~0u;
    if (!seen.insert({entry.leaf, subleaf}).second)
      return Wrong("cpuid", absl::StrFormat("leaf %#x.%d twice", entry.leaf, entry.subleaf));
  }
  const std::string vendor = CpuidVendor(state.cpuid);
  if (vendor != limits.vendor)
    return Wrong("cpuid", absl::StrCat("vendor '", vendor, "', the host's is ", limits.vendor));
  if (limits.fixed_cpuid && !SameCpuid(*limits.fixed_cpuid, state.cpuid))
    return Wrong("cpuid", "another than the vCPU has run with");
  return absl::OkStatus();
}

absl::Status CheckTsc(const VcpuState& state, const VcpuStateLimits& limits) {
  const uint64_t wanted = state.tsc.khz, has = limits.tsc_khz;
  if (wanted == 0) return Wrong("tsc", "a frequency of 0");
  if (state.tsc.offset && !limits.tsc_offset)
    return Wrong("tsc", "an offset, but the host has no KVM_VCPU_TSC_OFFSET");
  const uint64_t apart = wanted > has ? wanted - has : has - wanted;
  if (apart > has * kTscTolerancePpm / 1'000'000 && !limits.tsc_control)
    return Unsupported(
        absl::StrFormat("vCPU state, tsc: %d kHz, the host's is %d and fixed", wanted, has));
  return absl::OkStatus();
}

bool IsSegment(const SegmentState& s) {
  return s.type < 16 && s.dpl < 4 &&
         std::max({s.present, s.db, s.s, s.l, s.g, s.avl, s.unusable}) <= 1;
}

// As KVM's kvm_is_valid_sregs: long mode is on or off as a whole.
absl::Status CheckSregs(const SystemRegisters& s) {
  for (const SegmentState* segment : {&s.cs, &s.ds, &s.es, &s.fs, &s.gs, &s.ss, &s.tr, &s.ldt})
    if (!IsSegment(*segment))
      return Wrong("sregs", absl::StrFormat("segment %#x", segment->selector));
  if (s.cr8 > 15) return Wrong("sregs", absl::StrFormat("cr8 %#x", s.cr8));
  if ((s.cr0 & kCr0Pg) && !(s.cr0 & kCr0Pe)) return Wrong("sregs", "paging without protection");
  if ((s.efer & kEferLme) && (s.cr0 & kCr0Pg)) {
    if (!(s.cr4 & kCr4Pae) || !(s.efer & kEferLma))
      return Wrong("sregs", "long mode without PAE or EFER.LMA");
  } else if ((s.efer & kEferLma) || s.cs.l) {
    return Wrong("sregs", "EFER.LMA or 64-bit code outside of long mode");
  }
  return absl::OkStatus();
}

absl::Status CheckExtended(const VcpuState& state, const VcpuStateLimits& limits) {
  if (!limits.xcrs && !state.xcrs.empty()) return Wrong("xcrs", "the host has none");
  if (state.xcrs.size() > kMostXcrs || !Ascend(state.xcrs))
    return Wrong("xcrs", absl::StrCat(state.xcrs.size(), " of them, or not ascending"));
  for (const XcrValue& xcr : state.xcrs)
    if (xcr.index != 0 || !(xcr.value & 1))
      return Wrong("xcrs", absl::StrFormat("xcr%d=%#x", xcr.index, xcr.value));
  if (state.xsave.size() < kLeastXsaveBytes || state.xsave.size() % 4096 != 0 ||
      state.xsave.size() > limits.xsave_bytes)
    return Wrong("xsave", absl::StrFormat("%d bytes, the host's has %d", state.xsave.size(),
                                          limits.xsave_bytes));
  return absl::OkStatus();
}

absl::Status CheckMsrs(const VcpuState& state, const VcpuStateLimits& limits) {
  if (!Ascend(state.msrs)) return Wrong("msrs", "not ascending");
  for (const MsrValue& msr : state.msrs)
    if (!std::ranges::binary_search(limits.msrs, msr.index))
      return Wrong("msrs", absl::StrFormat("the host does not keep MSR %#x (value %#x)", msr.index,
                                           msr.value));
  return absl::OkStatus();
}

absl::Status CheckEvents(const VcpuState& state) {
  const VcpuEvents& e = state.events;
  if (e.flags & ~kKnownEventFlags) return Wrong("events", absl::StrFormat("flags %#x", e.flags));
  const bool exception = e.exception.injected || e.exception.pending;
  if (exception && (e.exception.vector > kLastException || e.exception.vector == kNmiVector))
    return Wrong("events", absl::StrCat("exception ", e.exception.vector));
  return absl::OkStatus();
}

absl::Status CheckRest(const VcpuState& state, const VcpuStateLimits& limits) {
  if ((state.debug.dr6 >> 32) != 0 || (state.debug.dr7 >> 32) != 0)
    return Wrong("debug", "DR6 or DR7 above 32 bits");
  if (state.lapic.has_value() != limits.lapic)
    return Wrong("lapic", limits.lapic ? "missing" : "the VM has none in the kernel");
  if (state.mp_state > MpState::kSipiReceived ||
      (!limits.lapic && state.mp_state != MpState::kRunnable))
    return Wrong("mp_state", absl::StrCat(static_cast<uint32_t>(state.mp_state)));
  if (!state.nested) return absl::OkStatus();
  return Annotate(state.nested->Check(NestedFormatOf(state.cpuid), limits.nested_state_bytes),
                  "vCPU state");
}

}  // namespace

std::string CpuidVendor(const std::vector<CpuidEntry>& cpuid) {
  for (const CpuidEntry& entry : cpuid) {
    if (entry.leaf != 0) continue;
    const uint32_t words[] = {entry.ebx, entry.edx, entry.ecx};
    return std::string(reinterpret_cast<const char*>(words), sizeof(words));
  }
  return "";
}

NestedFormat NestedFormatOf(const std::vector<CpuidEntry>& cpuid) {
  const std::string vendor = CpuidVendor(cpuid);
  const bool svm = vendor == "AuthenticAMD" || vendor == "HygonGenuine";
  return svm ? NestedFormat::kSvm : NestedFormat::kVmx;
}

absl::Status CheckVcpuState(const VcpuState& state, const VcpuStateLimits& limits) {
  if (state.id != limits.id)
    return Wrong("id", absl::StrFormat("of vCPU %d, this is %d", state.id, limits.id));
  RETURN_IF_ERROR(CheckCpuid(state, limits));
  RETURN_IF_ERROR(CheckTsc(state, limits));
  RETURN_IF_ERROR(CheckSregs(state.sregs));
  RETURN_IF_ERROR(CheckExtended(state, limits));
  RETURN_IF_ERROR(CheckMsrs(state, limits));
  RETURN_IF_ERROR(CheckEvents(state));
  return CheckRest(state, limits);
}

}  // namespace drover
