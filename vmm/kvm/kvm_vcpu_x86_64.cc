#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/kvm_ioctl.h"
#include "vmm/kvm/kvm_vcpu.h"
#include "vmm/kvm/msrs.h"
#include "vmm/kvm/segments.h"
#include "vmm/kvm/state_convert.h"

namespace drover {
namespace {

constexpr uint64_t kFlagsAlwaysOne = 2;  // RFLAGS bit 1
constexpr size_t kLongestInstruction = 15;

// Local APIC registers (Intel SDM vol. 3A §11.5.1) and the delivery modes that MP systems start in.
constexpr size_t kLvtLint0 = 0x350;
constexpr size_t kLvtLint1 = 0x360;
constexpr uint32_t kDeliverExtInt = 7u << 8;
constexpr uint32_t kDeliverNmi = 4u << 8;

void SetRegister(struct kvm_lapic_state* lapic, size_t offset, uint32_t value) {
  memcpy(lapic->regs + offset, &value, sizeof(value));
}

// The legacy area of XSAVE in its initial state (SDM vol. 1 §13.6).
constexpr size_t kFcwOffset = 0;
constexpr size_t kMxcsrOffset = 24;
constexpr size_t kXstateBvOffset = 512;

std::vector<uint8_t> InitialXsave(size_t size) {
  std::vector<uint8_t> area(size);
  const uint16_t fcw = 0x37F;
  const uint32_t mxcsr = 0x1F80;
  const uint64_t x87_and_sse = 3;
  memcpy(area.data() + kFcwOffset, &fcw, sizeof(fcw));
  memcpy(area.data() + kMxcsrOffset, &mxcsr, sizeof(mxcsr));
  memcpy(area.data() + kXstateBvOffset, &x87_and_sse, sizeof(x87_and_sse));
  return area;
}

absl::Status SetCpuid(int vcpu_fd, const CpuidEntries& entries) {
  const size_t entry_bytes = entries.size() * sizeof(struct kvm_cpuid_entry2);
  std::vector<uint64_t> buffer((sizeof(struct kvm_cpuid2) + entry_bytes) / 8 + 1);
  auto* cpuid = reinterpret_cast<struct kvm_cpuid2*>(buffer.data());
  cpuid->nent = static_cast<uint32_t>(entries.size());
  memcpy(cpuid->entries, entries.data(), entry_bytes);
  return KvmIoctl(vcpu_fd, KVM_SET_CPUID2, cpuid, "KVM_SET_CPUID2");
}

absl::StatusOr<VcpuPowerOn> NotePowerOn(int vcpu_fd, bool irqchip) {
  VcpuPowerOn state;
  RETURN_IF_ERROR(KvmIoctl(vcpu_fd, KVM_GET_REGS, &state.regs, "KVM_GET_REGS"));
  RETURN_IF_ERROR(KvmIoctl(vcpu_fd, KVM_GET_SREGS, &state.sregs, "KVM_GET_SREGS"));
  if (!irqchip) return state;
  state.lapic.emplace();
  RETURN_IF_ERROR(KvmIoctl(vcpu_fd, KVM_GET_LAPIC, &*state.lapic, "KVM_GET_LAPIC"));
  return state;
}

std::string Segment(const char* name, const struct kvm_segment& s) {
  return absl::StrFormat("%s=%04x:%x/%x(t%x%s%s%s)", name, s.selector, s.base, s.limit, s.type,
                         s.l ? " l" : "", s.db ? " db" : "", s.unusable ? " unusable" : "");
}

}  // namespace

// KVM refuses another CPUID only after the vCPU ran.
absl::Status PrepareVcpu(KvmHost& host, uint32_t id, uint32_t vcpu_count, bool irqchip,
                         KvmVcpuParts* parts) {
  const int fd = parts->fd.get();
  if (parts->told_vcpus != vcpu_count) {
    ASSIGN_OR_RETURN(const CpuidEntries* supported, host.SupportedCpuid());
    const int tsc_khz = ioctl(fd, KVM_GET_TSC_KHZ, 0);
    RETURN_IF_ERROR(SetCpuid(
        fd, BuildCpuid(*supported, {.vcpu_id = id,
                                    .vcpu_count = vcpu_count,
                                    .tsc_khz = tsc_khz > 0 ? static_cast<uint32_t>(tsc_khz) : 0,
                                    .tsc_deadline_timer =
                                        KvmExtension(host.fd(), KVM_CAP_TSC_DEADLINE_TIMER) != 0,
                                    .irqchip = irqchip})));
    parts->told_vcpus = vcpu_count;
  }
  if (parts->power_on.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(parts->power_on, NotePowerOn(fd, irqchip));
  return absl::OkStatus();
}

template <typename Argument>
absl::Status KvmVcpu::Ioctl(unsigned long request, Argument argument, const char* name) const {
  return KvmIoctl(parts_.fd.get(), request, argument, name, absl::StrCat("vCPU ", id_));
}

absl::Status KvmVcpu::CheckWhole() const {
  if (!mixed_) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("vCPU ", id_, " is neither what it was nor what it was to become"));
}

template <typename Change>
absl::Status KvmVcpu::Remake(Change change) {
  mixed_ = true;
  absl::Status status = change();
  mixed_ = !status.ok();
  return status;
}

absl::Status KvmVcpu::SetUpForBoot(const BootRegisters& boot) {
  return Remake([&] { return Boot(boot); });
}

absl::Status KvmVcpu::Boot(const BootRegisters& boot) {
  RETURN_IF_ERROR(set_up_ ? ClearForReset()
                          : PrepareVcpu(*machine_->host, id_, vcpu_count_,
                                        machine_->irqchip.exists(), &parts_));
  set_up_ = true;
  RETURN_IF_ERROR(SetRegisters(boot));
  RETURN_IF_ERROR(SetLapic());
  if (!has_run_ && !restored_) return SetBootMsrs(parts_.fd.get());
  RETURN_IF_ERROR(ResetMsrs(parts_.fd.get()));
  return SetMpState();
}

// Completes the last exit, and those that follow from it, as if nobody had answered.
absl::Status KvmVcpu::DropExit() {
  absl::Status completed;
  do {
    held_exit_.reset();
    completed = CompleteExit();
  } while (absl::IsUnavailable(completed));
  return completed;
}

// In this order: the exit's I/O may write registers; a nested guest holds the registers of its own.
absl::Status KvmVcpu::ClearForReset() {
  RETURN_IF_ERROR(DropExit());
  RETURN_IF_ERROR(LeaveNestedGuest());
  RETURN_IF_ERROR(ClearEvents());
  return ClearExtendedState();
}

absl::Status KvmVcpu::LeaveNestedGuest() {
  if (machine_->host->capabilities().nested_state_bytes == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const CpuidEntries* supported, machine_->host->SupportedCpuid());
  struct kvm_nested_state state = {.size = sizeof(state)};
  if (IsAmd(*supported)) {
    state.format = KVM_STATE_NESTED_FORMAT_SVM;
    state.flags = KVM_STATE_NESTED_GIF_SET;
  } else {
    state.format = KVM_STATE_NESTED_FORMAT_VMX;
    state.hdr.vmx.vmxon_pa = state.hdr.vmx.vmcs12_pa = ~uint64_t{0};
  }
  return Ioctl(KVM_SET_NESTED_STATE, &state, "KVM_SET_NESTED_STATE");
}

absl::Status KvmVcpu::ClearEvents() {
  struct kvm_vcpu_events now = {};
  RETURN_IF_ERROR(Ioctl(KVM_GET_VCPU_EVENTS, &now, "KVM_GET_VCPU_EVENTS"));
  struct kvm_vcpu_events none = {.flags = now.flags};
  return Ioctl(KVM_SET_VCPU_EVENTS, &none, "KVM_SET_VCPU_EVENTS");
}

absl::Status KvmVcpu::ClearExtendedState() {
  if (KvmExtension(machine_->host->fd(), KVM_CAP_XCRS) != 0) {
    struct kvm_xcrs xcrs = {.nr_xcrs = 1};
    xcrs.xcrs[0] = {.xcr = 0, .value = 1};
    RETURN_IF_ERROR(Ioctl(KVM_SET_XCRS, &xcrs, "KVM_SET_XCRS"));
  }
  std::vector<uint8_t> xsave = InitialXsave(std::max<uint32_t>(
      KvmExtension(machine_->host->fd(), KVM_CAP_XSAVE2), sizeof(struct kvm_xsave)));
  RETURN_IF_ERROR(Ioctl(KVM_SET_XSAVE, xsave.data(), "KVM_SET_XSAVE"));
  struct kvm_debugregs debug = {.dr6 = 0xFFFF0FF0, .dr7 = 0x400};
  return Ioctl(KVM_SET_DEBUGREGS, &debug, "KVM_SET_DEBUGREGS");
}

absl::Status KvmVcpu::SetRegisters(const BootRegisters& boot) {
  struct kvm_sregs sregs = parts_.power_on->sregs;
  struct kvm_regs regs = parts_.power_on->regs;
  if (id_ == 0) {
    SetBootMode(boot, &sregs);
    regs = {.rbx = boot.rbx,
            .rsi = boot.rsi,
            .rsp = boot.rsp,
            .rip = boot.rip,
            .rflags = kFlagsAlwaysOne};
  }
  RETURN_IF_ERROR(Ioctl(KVM_SET_SREGS, &sregs, "KVM_SET_SREGS"));
  return Ioctl(KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

// Virtual wire mode (MP specification 1.4 §3.6.2.2), as firmware leaves it.
absl::Status KvmVcpu::SetLapic() {
  if (!parts_.power_on->lapic) return absl::OkStatus();
  struct kvm_lapic_state lapic = *parts_.power_on->lapic;
  SetRegister(&lapic, kLvtLint0, kDeliverExtInt);
  SetRegister(&lapic, kLvtLint1, kDeliverNmi);
  return Ioctl(KVM_SET_LAPIC, &lapic, "KVM_SET_LAPIC");
}

absl::Status KvmVcpu::SetMpState() {
  if (!parts_.power_on->lapic) return absl::OkStatus();
  struct kvm_mp_state state = {.mp_state = id_ == 0 ? uint32_t{KVM_MP_STATE_RUNNABLE}
                                                    : uint32_t{KVM_MP_STATE_UNINITIALIZED}};
  return Ioctl(KVM_SET_MP_STATE, &state, "KVM_SET_MP_STATE");
}

absl::StatusOr<VcpuStateContext> KvmVcpu::StateContext() const {
  const int fd = parts_.fd.get();
  ASSIGN_OR_RETURN(const std::vector<uint32_t>* msrs, machine_->host->SaveableMsrs(fd));
  return VcpuStateContext{.vm_fd = machine_->vm.get(),
                          .vcpu_fd = fd,
                          .id = id_,
                          .lapic = machine_->irqchip.exists(),
                          .tsc_control = machine_->host->capabilities().tsc_control,
                          .nested_state_bytes = machine_->host->capabilities().nested_state_bytes,
                          .msrs = *msrs};
}

absl::StatusOr<VcpuState> KvmVcpu::SaveState() {
  if (!set_up_)
    return absl::FailedPreconditionError(absl::StrCat("vCPU ", id_, " was never set up"));
  RETURN_IF_ERROR(CheckWhole());
  RETURN_IF_ERROR(CompleteExit());
  ASSIGN_OR_RETURN(const VcpuStateContext context, StateContext());
  return SaveVcpuState(context);
}

absl::Status KvmVcpu::CheckRestore(const VcpuStateContext& context, const VcpuState& state) const {
  ASSIGN_OR_RETURN(const CpuidEntries* supported, machine_->host->SupportedCpuid());
  std::vector<CpuidEntry> host;
  for (const struct kvm_cpuid_entry2& entry : *supported) host.push_back(FromKvm(entry));
  VcpuStateLimits limits = LimitsOf(context, CpuidVendor(host));
  if (has_run_) {
    ASSIGN_OR_RETURN(limits.fixed_cpuid, GetVcpuCpuid(context.vcpu_fd));
  }
  return CheckVcpuState(state, limits);
}

absl::Status KvmVcpu::RestoreState(const VcpuState& state) {
  ASSIGN_OR_RETURN(const VcpuStateContext context, StateContext());
  RETURN_IF_ERROR(CheckRestore(context, state));
  return Remake([&] { return Restore(context, state); });
}

// What the vCPU was must not hold the new state up: an exit that is to be completed, or a nested
// guest, which has registers of its own.
absl::Status KvmVcpu::Restore(const VcpuStateContext& context, const VcpuState& state) {
  if (!set_up_)
    RETURN_IF_ERROR(PrepareVcpu(*machine_->host, id_, vcpu_count_, context.lapic, &parts_));
  set_up_ = true;
  if (has_run_ || restored_) {
    RETURN_IF_ERROR(DropExit());
    RETURN_IF_ERROR(LeaveNestedGuest());
  }
  restored_ = true;
  return RestoreVcpuState(context, state);
}

absl::StatusOr<uint64_t> KvmVcpu::GetMsr(uint32_t index) { return ReadMsr(parts_.fd.get(), index); }

absl::Status KvmVcpu::SetMsr(uint32_t index, uint64_t value) {
  return WriteMsr(parts_.fd.get(), index, value);
}

std::vector<uint8_t> KvmVcpu::InstructionBytes() const {
  struct kvm_regs regs = {};
  struct kvm_sregs sregs = {};
  if (!Ioctl(KVM_GET_REGS, &regs, "KVM_GET_REGS").ok() ||
      !Ioctl(KVM_GET_SREGS, &sregs, "KVM_GET_SREGS").ok())
    return {};
  std::vector<uint8_t> out;
  const uint64_t start = (sregs.cs.l ? 0 : sregs.cs.base) + regs.rip;
  while (out.size() < kLongestInstruction) {
    const uint64_t linear = start + out.size();
    struct kvm_translation translation = {.linear_address = linear};
    if (!Ioctl(KVM_TRANSLATE, &translation, "KVM_TRANSLATE").ok() || !translation.valid) break;
    uint8_t bytes[kLongestInstruction];
    const size_t in_page = PageSize() - linear % PageSize();
    const size_t n = std::min(kLongestInstruction - out.size(), in_page);
    if (!machine_->slots.memory().Read(translation.physical_address, {bytes, n}).ok()) break;
    out.insert(out.end(), bytes, bytes + n);
  }
  return out;
}

std::string KvmVcpu::DumpRegisters() {
  struct kvm_regs r = {};
  struct kvm_sregs s = {};
  for (const absl::Status& status :
       {Ioctl(KVM_GET_REGS, &r, "KVM_GET_REGS"), Ioctl(KVM_GET_SREGS, &s, "KVM_GET_SREGS")})
    if (!status.ok()) return std::string(status.message());
  return absl::StrCat(
      absl::StrFormat("rip=%016x rflags=%08x rsp=%016x rbp=%016x\n", r.rip, r.rflags, r.rsp, r.rbp),
      absl::StrFormat("rax=%016x rbx=%016x rcx=%016x rdx=%016x rsi=%016x rdi=%016x\n", r.rax, r.rbx,
                      r.rcx, r.rdx, r.rsi, r.rdi),
      absl::StrFormat("r8=%016x r9=%016x r10=%016x r11=%016x", r.r8, r.r9, r.r10, r.r11),
      absl::StrFormat(" r12=%016x r13=%016x r14=%016x r15=%016x\n", r.r12, r.r13, r.r14, r.r15),
      Segment("cs", s.cs), " ", Segment("ds", s.ds), " ", Segment("es", s.es), " ",
      Segment("fs", s.fs), " ", Segment("gs", s.gs), " ", Segment("ss", s.ss), " ",
      Segment("tr", s.tr), " ", Segment("ldt", s.ldt), "\n",
      absl::StrFormat("cr0=%x cr2=%x cr3=%x cr4=%x cr8=%x efer=%x apic_base=%x ", s.cr0, s.cr2,
                      s.cr3, s.cr4, s.cr8, s.efer, s.apic_base),
      absl::StrFormat("gdt=%x/%x idt=%x/%x\n", s.gdt.base, s.gdt.limit, s.idt.base, s.idt.limit));
}

}  // namespace drover
