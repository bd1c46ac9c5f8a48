#include <algorithm>
#include <bit>
#include <cstddef>

#include "vmm/kvm/state_convert.h"

namespace drover {
namespace {

SegmentState FromKvm(const struct kvm_segment& s) {
  return {.base = s.base,
          .limit = s.limit,
          .selector = s.selector,
          .type = s.type,
          .dpl = s.dpl,
          .present = s.present,
          .db = s.db,
          .s = s.s,
          .l = s.l,
          .g = s.g,
          .avl = s.avl,
          .unusable = s.unusable};
}

struct kvm_segment ToKvm(const SegmentState& s) {
  return {.base = s.base,
          .limit = s.limit,
          .selector = s.selector,
          .type = s.type,
          .present = s.present,
          .dpl = s.dpl,
          .db = s.db,
          .s = s.s,
          .l = s.l,
          .g = s.g,
          .avl = s.avl,
          .unusable = s.unusable};
}

// What kvm_sregs and kvm_sregs2 have in common.
template <typename Sregs>
SystemRegisters Common(const Sregs& k) {
  return {.cs = FromKvm(k.cs),
          .ds = FromKvm(k.ds),
          .es = FromKvm(k.es),
          .fs = FromKvm(k.fs),
          .gs = FromKvm(k.gs),
          .ss = FromKvm(k.ss),
          .tr = FromKvm(k.tr),
          .ldt = FromKvm(k.ldt),
          .gdt = {k.gdt.base, k.gdt.limit},
          .idt = {k.idt.base, k.idt.limit},
          .cr0 = k.cr0,
          .cr2 = k.cr2,
          .cr3 = k.cr3,
          .cr4 = k.cr4,
          .cr8 = k.cr8,
          .efer = k.efer,
          .apic_base = k.apic_base,
          .pdptrs = std::nullopt};
}

template <typename Sregs>
Sregs CommonToKvm(const SystemRegisters& s) {
  Sregs k = {};
  k.cs = ToKvm(s.cs), k.ds = ToKvm(s.ds), k.es = ToKvm(s.es);
  k.fs = ToKvm(s.fs), k.gs = ToKvm(s.gs), k.ss = ToKvm(s.ss);
  k.tr = ToKvm(s.tr), k.ldt = ToKvm(s.ldt);
  k.gdt = {.base = s.gdt.base, .limit = s.gdt.limit};
  k.idt = {.base = s.idt.base, .limit = s.idt.limit};
  k.cr0 = s.cr0, k.cr2 = s.cr2, k.cr3 = s.cr3, k.cr4 = s.cr4, k.cr8 = s.cr8;
  k.efer = s.efer;
  k.apic_base = s.apic_base;
  return k;
}

PitChannelState FromKvm(const struct kvm_pit_channel_state& c) {
  return {.count = c.count,
          .latched_count = c.latched_count,
          .count_latched = c.count_latched,
          .status_latched = c.status_latched,
          .status = c.status,
          .read_state = c.read_state,
          .write_state = c.write_state,
          .write_latch = c.write_latch,
          .rw_mode = c.rw_mode,
          .mode = c.mode,
          .bcd = c.bcd,
          .gate = c.gate};
}

struct kvm_pit_channel_state ToKvm(const PitChannelState& c) {
  return {.count = c.count,
          .latched_count = c.latched_count,
          .count_latched = c.count_latched,
          .status_latched = c.status_latched,
          .status = c.status,
          .read_state = c.read_state,
          .write_state = c.write_state,
          .write_latch = c.write_latch,
          .rw_mode = c.rw_mode,
          .mode = c.mode,
          .bcd = c.bcd,
          .gate = c.gate,
          .count_load_time = 0};
}

}  // namespace

// Members of the same widths in the same order.
GeneralRegisters FromKvm(const struct kvm_regs& regs) {
  return std::bit_cast<GeneralRegisters>(regs);
}
struct kvm_regs ToKvm(const GeneralRegisters& regs) {
  return std::bit_cast<struct kvm_regs>(regs);
}
static_assert(offsetof(struct kvm_regs, rsp) == offsetof(GeneralRegisters, rsp) &&
              offsetof(struct kvm_regs, rflags) == offsetof(GeneralRegisters, rflags));

SystemRegisters FromKvm(const struct kvm_sregs2& sregs) {
  SystemRegisters out = Common(sregs);
  if (!(sregs.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID)) return out;
  out.pdptrs.emplace();
  std::ranges::copy(sregs.pdptrs, out.pdptrs->begin());
  return out;
}

struct kvm_sregs2 ToKvm(const SystemRegisters& sregs) {
  auto out = CommonToKvm<struct kvm_sregs2>(sregs);
  if (!sregs.pdptrs) return out;
  out.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
  std::ranges::copy(*sregs.pdptrs, out.pdptrs);
  return out;
}

SystemRegisters FromKvm(const struct kvm_sregs& sregs) { return Common(sregs); }

struct kvm_sregs ToOldKvm(const SystemRegisters& sregs) {
  return CommonToKvm<struct kvm_sregs>(sregs);
}

DebugRegisters FromKvm(const struct kvm_debugregs& debug) {
  return {.db = {debug.db[0], debug.db[1], debug.db[2], debug.db[3]},
          .dr6 = debug.dr6,
          .dr7 = debug.dr7};
}

struct kvm_debugregs ToKvm(const DebugRegisters& debug) {
  struct kvm_debugregs out = {.dr6 = debug.dr6, .dr7 = debug.dr7};
  std::ranges::copy(debug.db, out.db);
  return out;
}

std::vector<XcrValue> FromKvm(const struct kvm_xcrs& xcrs) {
  std::vector<XcrValue> out;
  for (uint32_t i = 0; i < xcrs.nr_xcrs && i < KVM_MAX_XCRS; ++i)
    out.push_back({xcrs.xcrs[i].xcr, xcrs.xcrs[i].value});
  std::ranges::sort(out, {}, &XcrValue::index);
  return out;
}

struct kvm_xcrs ToKvm(const std::vector<XcrValue>& xcrs) {
  struct kvm_xcrs out = {};
  for (const XcrValue& xcr : xcrs) {
    if (out.nr_xcrs == KVM_MAX_XCRS) break;
    out.xcrs[out.nr_xcrs++] = {.xcr = xcr.index, .value = xcr.value};
  }
  return out;
}

VcpuEvents FromKvm(const struct kvm_vcpu_events& e) {
  return {.flags = e.flags,
          .exception = {.injected = e.exception.injected,
                        .pending = e.exception.pending,
                        .vector = e.exception.nr,
                        .has_error_code = e.exception.has_error_code,
                        .error_code = e.exception.error_code,
                        .has_payload = e.exception_has_payload,
                        .payload = e.exception_payload},
          .interrupt = {e.interrupt.injected, e.interrupt.nr, e.interrupt.soft, e.interrupt.shadow},
          .nmi = {e.nmi.injected, e.nmi.pending, e.nmi.masked},
          .smi = {e.smi.smm, e.smi.pending, e.smi.smm_inside_nmi, e.smi.latched_init},
          .sipi_vector = e.sipi_vector,
          .triple_fault_pending = e.triple_fault.pending};
}

struct kvm_vcpu_events ToKvm(const VcpuEvents& e) {
  struct kvm_vcpu_events out = {};
  out.flags = e.flags;
  out.exception.injected = e.exception.injected;
  out.exception.pending = e.exception.pending;
  out.exception.nr = e.exception.vector;
  out.exception.has_error_code = e.exception.has_error_code;
  out.exception.error_code = e.exception.error_code;
  out.exception_has_payload = e.exception.has_payload;
  out.exception_payload = e.exception.payload;
  out.interrupt = {e.interrupt.injected, e.interrupt.vector, e.interrupt.soft, e.interrupt.shadow};
  out.nmi = {e.nmi.injected, e.nmi.pending, e.nmi.masked, 0};
  out.smi = {e.smi.smm, e.smi.pending, e.smi.inside_nmi, e.smi.latched_init};
  out.sipi_vector = e.sipi_vector;
  out.triple_fault.pending = e.triple_fault_pending;
  return out;
}

CpuidEntry FromKvm(const struct kvm_cpuid_entry2& e) {
  return {.leaf = e.function,
          .subleaf = e.index,
          .flags = e.flags,
          .eax = e.eax,
          .ebx = e.ebx,
          .ecx = e.ecx,
          .edx = e.edx};
}

struct kvm_cpuid_entry2 ToKvm(const CpuidEntry& e) {
  return {.function = e.leaf,
          .index = e.subleaf,
          .flags = e.flags,
          .eax = e.eax,
          .ebx = e.ebx,
          .ecx = e.ecx,
          .edx = e.edx};
}

// Sixteen bytes in the same order.
PicState FromKvm(const struct kvm_pic_state& pic) { return std::bit_cast<PicState>(pic); }
struct kvm_pic_state ToKvm(const PicState& pic) {
  return std::bit_cast<struct kvm_pic_state>(pic);
}
static_assert(offsetof(struct kvm_pic_state, irq_base) == offsetof(PicState, irq_base) &&
              offsetof(struct kvm_pic_state, elcr_mask) == offsetof(PicState, elcr_mask));

IoapicState FromKvm(const struct kvm_ioapic_state& ioapic) {
  IoapicState out = {.base_address = ioapic.base_address,
                     .selected_register = ioapic.ioregsel,
                     .id = ioapic.id,
                     .irr = ioapic.irr,
                     .redirections = {}};
  for (uint32_t pin = 0; pin < IoapicState::kPins; ++pin)
    out.redirections[pin].bits = ioapic.redirtbl[pin].bits;
  return out;
}

struct kvm_ioapic_state ToKvm(const IoapicState& ioapic) {
  struct kvm_ioapic_state out = {};
  out.base_address = ioapic.base_address;
  out.ioregsel = ioapic.selected_register;
  out.id = ioapic.id;
  out.irr = ioapic.irr;
  for (uint32_t pin = 0; pin < IoapicState::kPins; ++pin)
    out.redirtbl[pin].bits = ioapic.redirections[pin].bits;
  return out;
}
static_assert(IoapicState::kPins == KVM_IOAPIC_NUM_PINS);

PitState FromKvm(const struct kvm_pit_state2& pit) {
  return {
      .channels = {FromKvm(pit.channels[0]), FromKvm(pit.channels[1]), FromKvm(pit.channels[2])},
      .flags = pit.flags};
}

struct kvm_pit_state2 ToKvm(const PitState& pit) {
  return {.channels = {ToKvm(pit.channels[0]), ToKvm(pit.channels[1]), ToKvm(pit.channels[2])},
          .flags = pit.flags};
}

struct kvm_irq_routing_entry ToKvm(const IrqRoute& route) {
  struct kvm_irq_routing_entry out = {.gsi = route.gsi};
  if (const auto* message = std::get_if<MsiMessage>(&route.to)) {
    out.type = KVM_IRQ_ROUTING_MSI;
    out.u.msi.address_lo = static_cast<uint32_t>(message->address);
    out.u.msi.address_hi = static_cast<uint32_t>(message->address >> 32);
    out.u.msi.data = message->data;
    return out;
  }
  const IrqchipPin& pin = std::get<IrqchipPin>(route.to);
  out.type = KVM_IRQ_ROUTING_IRQCHIP;
  out.u.irqchip.irqchip = static_cast<uint32_t>(pin.chip);
  out.u.irqchip.pin = pin.pin;
  return out;
}
static_assert(static_cast<int>(IrqchipPin::Chip::kPicMaster) == KVM_IRQCHIP_PIC_MASTER &&
              static_cast<int>(IrqchipPin::Chip::kPicSlave) == KVM_IRQCHIP_PIC_SLAVE &&
              static_cast<int>(IrqchipPin::Chip::kIoapic) == KVM_IRQCHIP_IOAPIC);

}  // namespace drover
