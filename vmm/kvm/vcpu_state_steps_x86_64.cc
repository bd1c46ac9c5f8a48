#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "vmm/core/vm_errors.h"
#include "vmm/kvm/kvm_ioctl.h"
#include "vmm/kvm/msrs.h"
#include "vmm/kvm/state_convert.h"
#include "vmm/kvm/vcpu_state_steps.h"

namespace drover {
namespace {

using Context = VcpuStateContext;

constexpr uint32_t kTscMsr = 0x10;
constexpr uint32_t kMostCpuidEntries = 256;
constexpr uint64_t kTscDriftMillis = 100;

// A struct kvm_cpuid2 with room for all entries that KVM takes.
struct CpuidBuffer {
  struct kvm_cpuid2 header;
  struct kvm_cpuid_entry2 entries[kMostCpuidEntries];
};
static_assert(offsetof(CpuidBuffer, entries) == sizeof(struct kvm_cpuid2));

absl::Status GetCpuid(const Context& vcpu, VcpuState* state) {
  ASSIGN_OR_RETURN(state->cpuid, GetVcpuCpuid(vcpu.vcpu_fd));
  return absl::OkStatus();
}

absl::Status SetCpuid(const Context& vcpu, const VcpuState& state) {
  CpuidBuffer buffer = {};
  buffer.header.nent = static_cast<uint32_t>(state.cpuid.size());
  std::ranges::transform(state.cpuid, buffer.entries,
                         [](const CpuidEntry& entry) { return ToKvm(entry); });
  return KvmIoctl(vcpu.vcpu_fd, KVM_SET_CPUID2, &buffer.header, "KVM_SET_CPUID2");
}

uint32_t TscKhz(const Context& vcpu) {
  const int khz = ioctl(vcpu.vcpu_fd, KVM_GET_TSC_KHZ, 0);
  return khz > 0 ? static_cast<uint32_t>(khz) : 0;
}

struct kvm_device_attr TscOffsetAttribute(uint64_t* offset) {
  return {.group = KVM_VCPU_TSC_CTRL,
          .attr = KVM_VCPU_TSC_OFFSET,
          .addr = reinterpret_cast<uintptr_t>(offset)};
}

bool HasTscOffset(const Context& vcpu) {
  const struct kvm_device_attr attribute = TscOffsetAttribute(nullptr);
  return ioctl(vcpu.vcpu_fd, KVM_HAS_DEVICE_ATTR, &attribute) == 0;
}

absl::Status GetTsc(const Context& vcpu, VcpuState* state) {
  state->tsc.khz = TscKhz(vcpu);
  ASSIGN_OR_RETURN(state->tsc.value, ReadMsr(vcpu.vcpu_fd, kTscMsr));
  if (!HasTscOffset(vcpu)) return absl::OkStatus();
  const struct kvm_device_attr attribute = TscOffsetAttribute(&state->tsc.offset.emplace());
  return KvmIoctl(vcpu.vcpu_fd, KVM_GET_DEVICE_ATTR, &attribute, "KVM_GET_DEVICE_ATTR",
                  "KVM_VCPU_TSC_OFFSET");
}

// A frequency within KVM's tolerance of the vCPU's own is left as it is: setting it would turn on
// scaling for nothing, or fail where there is none.
absl::Status SetTsc(const Context& vcpu, const VcpuState& state) {
  const uint64_t has = TscKhz(vcpu), wanted = state.tsc.khz;
  if ((wanted > has ? wanted - has : has - wanted) > has / 4000)
    RETURN_IF_ERROR(KvmIoctl(vcpu.vcpu_fd, KVM_SET_TSC_KHZ, wanted, "KVM_SET_TSC_KHZ"));
  if (!state.tsc.offset) return WriteMsr(vcpu.vcpu_fd, kTscMsr, state.tsc.value);
  uint64_t offset = *state.tsc.offset;
  const struct kvm_device_attr attribute = TscOffsetAttribute(&offset);
  RETURN_IF_ERROR(KvmIoctl(vcpu.vcpu_fd, KVM_SET_DEVICE_ATTR, &attribute, "KVM_SET_DEVICE_ATTR",
                           "KVM_VCPU_TSC_OFFSET"));
  // A software KVM whose guests have the host's TSC says yes and keeps 0. Where the host's TSC is
  // unstable, KVM lets the guest's stand still from call to call: off by what passed since.
  RETURN_IF_ERROR(KvmIoctl(vcpu.vcpu_fd, KVM_GET_DEVICE_ATTR, &attribute, "KVM_GET_DEVICE_ATTR",
                           "KVM_VCPU_TSC_OFFSET"));
  const auto off = static_cast<int64_t>(offset - *state.tsc.offset);
  if (std::abs(off) <= static_cast<int64_t>(has * kTscDriftMillis)) return absl::OkStatus();
  return Unsupported(absl::StrCat("TSC offset ", *state.tsc.offset, ": the host keeps ", offset));
}

absl::Status GetSregs(const Context& vcpu, VcpuState* state) {
  if (KvmExtension(vcpu.vm_fd, KVM_CAP_SREGS2) != 0) {
    struct kvm_sregs2 sregs = {};
    RETURN_IF_ERROR(KvmIoctl(vcpu.vcpu_fd, KVM_GET_SREGS2, &sregs, "KVM_GET_SREGS2"));
    state->sregs = FromKvm(sregs);
    return absl::OkStatus();
  }
  struct kvm_sregs sregs = {};
  RETURN_IF_ERROR(KvmIoctl(vcpu.vcpu_fd, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS"));
  state->sregs = FromKvm(sregs);
  return absl::OkStatus();
}

absl::Status SetSregs(const Context& vcpu, const VcpuState& state) {
  if (KvmExtension(vcpu.vm_fd, KVM_CAP_SREGS2) != 0) {
    struct kvm_sregs2 sregs = ToKvm(state.sregs);
    return KvmIoctl(vcpu.vcpu_fd, KVM_SET_SREGS2, &sregs, "KVM_SET_SREGS2");
  }
  struct kvm_sregs sregs = ToOldKvm(state.sregs);
  return KvmIoctl(vcpu.vcpu_fd, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
}

bool HasXcrs(const Context& vcpu) { return KvmExtension(vcpu.vm_fd, KVM_CAP_XCRS) != 0; }

absl::Status GetXcrs(const Context& vcpu, VcpuState* state) {
  if (!HasXcrs(vcpu)) return absl::OkStatus();
  struct kvm_xcrs xcrs = {};
  RETURN_IF_ERROR(KvmIoctl(vcpu.vcpu_fd, KVM_GET_XCRS, &xcrs, "KVM_GET_XCRS"));
  state->xcrs = FromKvm(xcrs);
  return absl::OkStatus();
}

// A state of a host without XSAVE has none: x87 alone is on, as at reset.
absl::Status SetXcrs(const Context& vcpu, const VcpuState& state) {
  if (!HasXcrs(vcpu)) return absl::OkStatus();
  struct kvm_xcrs xcrs = ToKvm(state.xcrs.empty() ? std::vector<XcrValue>{{0, 1}} : state.xcrs);
  return KvmIoctl(vcpu.vcpu_fd, KVM_SET_XCRS, &xcrs, "KVM_SET_XCRS");
}

// On a VM, KVM_CAP_XSAVE2 is what its vCPUs need; /dev/kvm may say less.
uint32_t XsaveBytes(const Context& vcpu) {
  return std::max<uint32_t>(KvmExtension(vcpu.vm_fd, KVM_CAP_XSAVE2), sizeof(struct kvm_xsave));
}

absl::Status GetXsave(const Context& vcpu, VcpuState* state) {
  state->xsave.assign(XsaveBytes(vcpu), 0);
  if (KvmExtension(vcpu.vm_fd, KVM_CAP_XSAVE2) != 0)
    return KvmIoctl(vcpu.vcpu_fd, KVM_GET_XSAVE2, state->xsave.data(), "KVM_GET_XSAVE2");
  return KvmIoctl(vcpu.vcpu_fd, KVM_GET_XSAVE, state->xsave.data(), "KVM_GET_XSAVE");
}

// A smaller area is one of a host with fewer components: those are in their initial state.
absl::Status SetXsave(const Context& vcpu, const VcpuState& state) {
  std::vector<uint8_t> area = state.xsave;
  area.resize(XsaveBytes(vcpu));
  return KvmIoctl(vcpu.vcpu_fd, KVM_SET_XSAVE, area.data(), "KVM_SET_XSAVE");
}

absl::Status GetDebug(const Context& vcpu, VcpuState* state) {
  struct kvm_debugregs debug = {};
  RETURN_IF_ERROR(KvmIoctl(vcpu.vcpu_fd, KVM_GET_DEBUGREGS, &debug, "KVM_GET_DEBUGREGS"));
  state->debug = FromKvm(debug);
  return absl::OkStatus();
}

absl::Status SetDebug(const Context& vcpu, const VcpuState& state) {
  struct kvm_debugregs debug = ToKvm(state.debug);
  return KvmIoctl(vcpu.vcpu_fd, KVM_SET_DEBUGREGS, &debug, "KVM_SET_DEBUGREGS");
}

static_assert(sizeof(struct kvm_lapic_state) == sizeof(LapicRegisters));

absl::Status GetLapic(const Context& vcpu, VcpuState* state) {
  if (!vcpu.lapic) return absl::OkStatus();
  return KvmIoctl(vcpu.vcpu_fd, KVM_GET_LAPIC, state->lapic.emplace().data(), "KVM_GET_LAPIC");
}

absl::Status SetLapic(const Context& vcpu, const VcpuState& state) {
  if (!state.lapic) return absl::OkStatus();
  LapicRegisters lapic = *state.lapic;
  return KvmIoctl(vcpu.vcpu_fd, KVM_SET_LAPIC, lapic.data(), "KVM_SET_LAPIC");
}

absl::Status GetMsrs(const Context& vcpu, VcpuState* state) {
  ASSIGN_OR_RETURN(state->msrs, ReadMsrs(vcpu.vcpu_fd, vcpu.msrs));
  return absl::OkStatus();
}

absl::Status SetMsrs(const Context& vcpu, const VcpuState& state) {
  return RestoreMsrs(vcpu.vcpu_fd, state.msrs);
}

absl::Status GetRegs(const Context& vcpu, VcpuState* state) {
  struct kvm_regs regs = {};
  RETURN_IF_ERROR(KvmIoctl(vcpu.vcpu_fd, KVM_GET_REGS, &regs, "KVM_GET_REGS"));
  state->regs = FromKvm(regs);
  return absl::OkStatus();
}

absl::Status SetRegs(const Context& vcpu, const VcpuState& state) {
  struct kvm_regs regs = ToKvm(state.regs);
  return KvmIoctl(vcpu.vcpu_fd, KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

absl::Status GetNested(const Context& vcpu, VcpuState* state) {
  if (vcpu.nested_state_bytes == 0) return absl::OkStatus();
  NestedStateBuffer& nested = state->nested.emplace(NestedStateBuffer::Empty());
  const absl::Status status =
      KvmIoctl(vcpu.vcpu_fd, KVM_GET_NESTED_STATE, &nested, "KVM_GET_NESTED_STATE");
  if (PosixErrno(status) == std::optional<int>(E2BIG))
    return Annotate(status, absl::StrCat(nested.size, " bytes of nested state"));
  return status;
}

absl::Status SetNested(const Context& vcpu, const VcpuState& state) {
  if (!state.nested) return absl::OkStatus();
  NestedStateBuffer nested = *state.nested;
  return KvmIoctl(vcpu.vcpu_fd, KVM_SET_NESTED_STATE, &nested, "KVM_SET_NESTED_STATE");
}

absl::Status GetEvents(const Context& vcpu, VcpuState* state) {
  struct kvm_vcpu_events events = {};
  RETURN_IF_ERROR(KvmIoctl(vcpu.vcpu_fd, KVM_GET_VCPU_EVENTS, &events, "KVM_GET_VCPU_EVENTS"));
  state->events = FromKvm(events);
  return absl::OkStatus();
}

absl::Status SetEvents(const Context& vcpu, const VcpuState& state) {
  struct kvm_vcpu_events events = ToKvm(state.events);
  return KvmIoctl(vcpu.vcpu_fd, KVM_SET_VCPU_EVENTS, &events, "KVM_SET_VCPU_EVENTS");
}

absl::Status GetMpState(const Context& vcpu, VcpuState* state) {
  struct kvm_mp_state mp = {};
  RETURN_IF_ERROR(KvmIoctl(vcpu.vcpu_fd, KVM_GET_MP_STATE, &mp, "KVM_GET_MP_STATE"));
  state->mp_state = static_cast<MpState>(mp.mp_state);
  return absl::OkStatus();
}

absl::Status SetMpState(const Context& vcpu, const VcpuState& state) {
  struct kvm_mp_state mp = {.mp_state = static_cast<uint32_t>(state.mp_state)};
  return KvmIoctl(vcpu.vcpu_fd, KVM_SET_MP_STATE, &mp, "KVM_SET_MP_STATE");
}

// Where a step stands for its getter's sake, the reason says so. Sources: KVM's api.rst and
// arch/x86/kvm; the order of QEMU's kvm_arch_put_registers and Cloud Hypervisor's Vcpu::set_state;
// e2e/guest's nested_state_test, which moved nested guests in every order.
constexpr VcpuStateStep kSteps[] = {
    {"CPUID", GetCpuid, SetCpuid,
     "decides which bits of CR4, EFER and XCR0, which MSRs and which nested state are valid"},
    {"TSC", GetTsc, SetTsc,
     "before MSRs: IA32_TSC_DEADLINE is measured against it; before kvmclock's page is written"},
    {"SREGS", GetSregs, SetSregs,
     "APIC base (and x2APIC mode) before LAPIC; EFER.SVME and CR4.VMXE before nested state, and "
     "never after it only; CR2 is got after EVENTS, which may move an exception's address there"},
    {"XCRS", GetXcrs, SetXcrs, "after CR4.OSXSAVE; before XSAVE, whose components it enables"},
    {"XSAVE", GetXsave, SetXsave, "after CPUID and XCRS, which say what may be in it"},
    {"DEBUGREGS", GetDebug, SetDebug,
     "before nested state, which takes them over; DR6 is got after EVENTS, which may change it"},
    {"LAPIC", GetLapic, SetLapic,
     "after the APIC base; before MSRs: IA32_TSC_DEADLINE is dropped unless the timer is in that "
     "mode; got after MP_STATE, which takes in pending INIT and SIPI"},
    {"MSRS", GetMsrs, SetMsrs,
     "VMX capabilities and FEATURE_CONTROL before nested state, VM_HSAVE_PA before a VMRUN"},
    {"REGS", GetRegs, SetRegs, "before EVENTS: setting RIP drops pending exceptions"},
    {"NESTED", GetNested, SetNested,
     "enters the nested guest with what was set so far; before EVENTS, which may be the nested "
     "guest's"},
    {"EVENTS", GetEvents, SetEvents, "after REGS, NESTED and LAPIC, which drop or add events"},
    {"MP_STATE", GetMpState, SetMpState,
     "last, so that nothing wakes the vCPU; got first: it may change the LAPIC, REGS and SREGS"},
};

}  // namespace

std::span<const VcpuStateStep> VcpuStateSteps() { return kSteps; }

absl::StatusOr<std::vector<CpuidEntry>> GetVcpuCpuid(int vcpu_fd) {
  CpuidBuffer buffer = {};
  buffer.header.nent = kMostCpuidEntries;
  RETURN_IF_ERROR(KvmIoctl(vcpu_fd, KVM_GET_CPUID2, &buffer.header, "KVM_GET_CPUID2"));
  std::vector<CpuidEntry> out;
  for (uint32_t i = 0; i < buffer.header.nent; ++i) out.push_back(FromKvm(buffer.entries[i]));
  // Before Linux 6.3 the call leaves `nent` as it was, and what lies behind the last one is zero.
  while (!out.empty() && out.back() == CpuidEntry()) out.pop_back();
  return out;
}

VcpuStateLimits LimitsOf(const VcpuStateContext& vcpu, std::string vendor) {
  return {.id = vcpu.id,
          .vendor = std::move(vendor),
          .tsc_khz = TscKhz(vcpu),
          .tsc_control = vcpu.tsc_control,
          .tsc_offset = HasTscOffset(vcpu),
          .xsave_bytes = XsaveBytes(vcpu),
          .xcrs = HasXcrs(vcpu),
          .lapic = vcpu.lapic,
          .nested_state_bytes = vcpu.nested_state_bytes,
          .msrs = vcpu.msrs,
          .fixed_cpuid = std::nullopt};
}

absl::StatusOr<VcpuState> SaveVcpuState(const VcpuStateContext& vcpu) {
  VcpuState state;
  state.id = vcpu.id;
  for (size_t i = std::size(kSteps); i-- > 0;)
    RETURN_IF_ERROR(
        Annotate(kSteps[i].get(vcpu, &state), absl::StrCat("vCPU ", vcpu.id, " ", kSteps[i].name)));
  return state;
}

absl::Status RestoreVcpuState(const VcpuStateContext& vcpu, const VcpuState& state) {
  for (const VcpuStateStep& step : kSteps)
    RETURN_IF_ERROR(
        Annotate(step.set(vcpu, state), absl::StrCat("vCPU ", vcpu.id, " ", step.name)));
  return absl::OkStatus();
}

}  // namespace drover
