#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "snapshot/compatibility.h"
#include "snapshot/cpuid_compare.h"
#include "snapshot/mismatch_list.h"
#include "vmm/core/memory_layout.h"
#include "vmm/core/vcpu_state_check.h"

namespace drover {
namespace {

constexpr char kRemedy[] = "no Drover wrote this state: take the snapshot again";
constexpr size_t kXstateBvAt = 512, kXcompBvAt = 520;  // SDM vol. 1 §13.4.2

Mismatch Never(std::string field, std::string what, std::string file, std::string right) {
  return {"STATE_INVARIANT",
          std::move(field),
          std::move(what),
          std::move(file),
          std::move(right),
          kRemedy,
          0};
}

std::string VcpuField(const VcpuState& vcpu, absl::string_view part) {
  return absl::StrCat("vcpu_states[", vcpu.id, "].x86", part.empty() ? "" : ".", part);
}

bool HasLapics(const MicrovmState& state) { return state.irqchip_state.has_value(); }

// All that CheckVcpuState can tell without a host: a host is made up that has just what the state
// needs.
void CheckRegisters(const MicrovmState& state, const VcpuState& vcpu, MismatchList* out) {
  std::vector<uint32_t> msrs;
  for (const MsrValue& msr : vcpu.msrs) msrs.push_back(msr.index);
  const VcpuStateLimits limits = {.id = vcpu.id,
                                  .vendor = CpuidVendor(vcpu.cpuid),
                                  .tsc_khz = vcpu.tsc.khz,
                                  .tsc_control = true,
                                  .tsc_offset = true,
                                  .xsave_bytes = static_cast<uint32_t>(vcpu.xsave.size()),
                                  .xcrs = !vcpu.xcrs.empty(),
                                  .lapic = HasLapics(state),
                                  .nested_state_bytes = NestedStateBuffer::kBytes,
                                  .msrs = msrs,
                                  .fixed_cpuid = std::nullopt};
  const absl::Status status = CheckVcpuState(vcpu, limits);
  if (!status.ok())
    out->AddOfVcpu(Never(VcpuField(vcpu, ""), "registers of a vCPU", std::string(status.message()),
                         "what a processor can hold"));
}

uint64_t Word(const std::vector<uint8_t>& bytes, size_t at) {
  uint64_t word = 0;
  for (size_t i = 0; i < 8 && at + i < bytes.size(); ++i)
    word |= static_cast<uint64_t>(bytes[at + i]) << 8 * i;
  return word;
}

void CheckXsave(const VcpuState& vcpu, MismatchList* out) {
  const uint64_t allowed = XsaveComponents(vcpu.cpuid) | 3;  // x87 and SSE are always there
  const uint64_t used = Word(vcpu.xsave, kXstateBvAt);
  if (used & ~allowed)
    out->AddOfVcpu(Never(VcpuField(vcpu, "xsave"), "components of the XSAVE area",
                         absl::StrFormat("%#x", used),
                         absl::StrFormat("at most %#x, as its CPUID says", allowed)));
  if (const uint64_t compact = Word(vcpu.xsave, kXcompBvAt); compact != 0)
    out->AddOfVcpu(Never(VcpuField(vcpu, "xsave"), "format of the XSAVE area",
                         absl::StrFormat("XCOMP_BV %#x", compact), "0: the standard format"));
}

// What all vCPUs of a machine share.
void CheckAlike(const VcpuState& vcpu, const VcpuState& first, MismatchList* out) {
  const auto differ = [&](const char* part, auto has, auto wanted) {
    if (has != wanted)
      out->AddOfVcpu(Never(VcpuField(vcpu, part), "vCPUs of one machine differ", absl::StrCat(has),
                           absl::StrCat(wanted, ", as vCPU 0 has")));
  };
  differ("cpuid", CpuidVendor(vcpu.cpuid), CpuidVendor(first.cpuid));
  differ("tsc.khz", vcpu.tsc.khz, first.tsc.khz);
  differ("xsave", vcpu.xsave.size(), first.xsave.size());
  differ("xcrs", vcpu.xcrs.size(), first.xcrs.size());
  differ("nested", vcpu.nested.has_value(), first.nested.has_value());
}

void CheckVcpus(const MicrovmState& state, MismatchList* out) {
  if (state.vcpu_states.size() != state.vm_info.vcpus)
    out->Add(Never("vcpu_states", "number of vCPUs", absl::StrCat(state.vcpu_states.size()),
                   absl::StrCat(state.vm_info.vcpus, ", as vm_info.vcpus says")));
  for (const VcpuState& vcpu : state.vcpu_states) {
    CheckRegisters(state, vcpu, out);
    CheckXsave(vcpu, out);
    CheckAlike(vcpu, state.vcpu_states[0], out);
  }
}

std::string Text(const std::vector<GuestRange>& regions) {
  std::string out;
  for (const GuestRange& r : regions)
    absl::StrAppendFormat(&out, "%s%u bytes at %#x", out.empty() ? "" : ", ", r.size, r.start);
  return out;
}

void CheckMemory(const MicrovmState& state, MismatchList* out) {
  const auto right = layout::RamRanges(state.vm_info.memory_bytes, uint64_t{1} << 52);
  if (!right.ok())
    out->Add(Never("vm_info.memory_bytes", "size of the memory",
                   absl::StrCat(state.vm_info.memory_bytes),
                   std::string(right.status().message())));
  else if (state.memory.regions != *right && state.vm_info.architecture == Architecture::kX86_64)
    out->Add(Never("memory.regions", "memory regions", Text(state.memory.regions), Text(*right)));
}

void CheckIrqchip(const MicrovmState& state, MismatchList* out) {
  const bool x86 = state.vm_info.architecture == Architecture::kX86_64;
  if (state.irqchip_state.has_value() != x86)
    out->Add(Never("irqchip_state", "interrupt controller", x86 ? "missing" : "present",
                   x86 ? "present on x86_64" : "absent on aarch64"));
  if (state.gic_state.has_value() == x86)
    out->Add(Never("gic_state", "interrupt controller", x86 ? "present" : "missing",
                   x86 ? "absent on x86_64" : "present on aarch64"));
  const auto* pc =
      state.irqchip_state ? std::get_if<PcIrqchipState>(&*state.irqchip_state) : nullptr;
  if (pc == nullptr) return;
  if (const absl::Status status = CheckIrqchipState(*pc); !status.ok())
    out->Add(Never("irqchip_state.pc", "interrupt controller", std::string(status.message()),
                   "what such a chip can hold"));
}

}  // namespace

void AddInvariants(const MicrovmState& state, MismatchList* out) {
  CheckVcpus(state, out);
  CheckMemory(state, out);
  CheckIrqchip(state, out);
}

std::vector<Mismatch> CheckInvariants(const MicrovmState& state) {
  MismatchList list;
  AddInvariants(state, &list);
  return list.Take();
}

}  // namespace drover
