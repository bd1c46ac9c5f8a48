#include "vmm/core/vcpu_state.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace drover {
namespace {

bool IndexBelow(const MsrValue& msr, uint32_t index) { return msr.index < index; }

// The first MSR that only one has, or that differs.
std::string MsrDifference(const std::vector<MsrValue>& a, const std::vector<MsrValue>& b) {
  for (size_t i = 0; i < a.size() && i < b.size(); ++i)
    if (a[i] != b[i])
      return absl::StrFormat("msrs: %#x=%#x and %#x=%#x; ", a[i].index, a[i].value, b[i].index,
                             b[i].value);
  return absl::StrCat("msrs: ", a.size(), " and ", b.size(), "; ");
}

template <typename Bytes>
std::string ByteDifference(const char* name, const Bytes& a, const Bytes& b) {
  const auto [x, y] = std::ranges::mismatch(a, b);
  if (x == a.end() || y == b.end())
    return absl::StrCat(name, ": ", a.size(), " and ", b.size(), " bytes; ");
  return absl::StrFormat("%s: byte %#x is %#x and %#x; ", name, x - a.begin(), *x, *y);
}

}  // namespace

uint32_t LapicRegister(const LapicRegisters& lapic, uint32_t offset) {
  uint32_t value;
  memcpy(&value, lapic.data() + offset, sizeof(value));
  return value;
}

void SetLapicRegister(LapicRegisters* lapic, uint32_t offset, uint32_t value) {
  memcpy(lapic->data() + offset, &value, sizeof(value));
}

const MsrValue* FindMsr(const VcpuState& state, uint32_t index) {
  const auto found = std::lower_bound(state.msrs.begin(), state.msrs.end(), index, IndexBelow);
  return found != state.msrs.end() && found->index == index ? &*found : nullptr;
}

MsrValue* FindMsr(VcpuState* state, uint32_t index) {
  return const_cast<MsrValue*>(FindMsr(std::as_const(*state), index));
}

std::string Difference(const VcpuState& a, const VcpuState& b) {
  std::string out;
  const auto note = [&](bool same, const char* name) {
    if (!same) absl::StrAppend(&out, name, "; ");
  };
  note(a.id == b.id, "id");
  note(a.cpuid == b.cpuid, "cpuid");
  note(a.tsc == b.tsc, "tsc");
  note(a.sregs == b.sregs, "sregs");
  note(a.xcrs == b.xcrs, "xcrs");
  if (a.xsave != b.xsave) out += ByteDifference("xsave", a.xsave, b.xsave);
  note(a.debug == b.debug, "debug");
  note(a.lapic.has_value() == b.lapic.has_value(), "lapic");
  if (a.lapic && b.lapic && *a.lapic != *b.lapic)
    out += ByteDifference("lapic", *a.lapic, *b.lapic);
  if (a.msrs != b.msrs) out += MsrDifference(a.msrs, b.msrs);
  note(a.regs == b.regs, "regs");
  note(a.nested == b.nested, "nested");
  note(a.events == b.events, "events");
  note(a.mp_state == b.mp_state, "mp_state");
  return out;
}

std::ostream& operator<<(std::ostream& out, const VcpuState& state) {
  out << absl::StrFormat("vCPU %d: rip=%#x rsp=%#x rflags=%#x cr0=%#x cr3=%#x cr4=%#x efer=%#x",
                         state.id, state.regs.rip, state.regs.rsp, state.regs.rflags,
                         state.sregs.cr0, state.sregs.cr3, state.sregs.cr4, state.sregs.efer)
      << absl::StrFormat(" mp_state=%d cpuid=%d msrs=%d xsave=%d tsc=%dkHz",
                         static_cast<uint32_t>(state.mp_state), state.cpuid.size(),
                         state.msrs.size(), state.xsave.size(), state.tsc.khz);
  if (state.nested) out << " " << *state.nested;
  return out;
}

uint64_t AdjustedTscOffset(uint64_t offset, uint32_t khz, const ClockMoment& source,
                           const ClockMoment& destination) {
  // 128 bits: nanoseconds times kHz exceed 64 after an hour.
  const __int128 nanos = static_cast<__int128>(source.nanos) - destination.nanos;
  const auto cycles = static_cast<uint64_t>(nanos * khz / 1'000'000);
  return offset - cycles + (source.host_tsc - destination.host_tsc);
}

}  // namespace drover
