#ifndef DROVER_VMM_KVM_STATE_CONVERT_H_
#define DROVER_VMM_KVM_STATE_CONVERT_H_

#include <linux/kvm.h>

#include <vector>

#include "vmm/core/irq_routes.h"
#include "vmm/core/irqchip_state.h"
#include "vmm/core/vcpu_state.h"

namespace drover {

// The model's values as KVM's structures, and back. x86-64.

GeneralRegisters FromKvm(const struct kvm_regs& regs);
struct kvm_regs ToKvm(const GeneralRegisters& regs);

SystemRegisters FromKvm(const struct kvm_sregs2& sregs);
struct kvm_sregs2 ToKvm(const SystemRegisters& sregs);
// Where the host has no KVM_CAP_SREGS2: without PDPTRs, and without an interrupt, which is among
// the events.
SystemRegisters FromKvm(const struct kvm_sregs& sregs);
struct kvm_sregs ToOldKvm(const SystemRegisters& sregs);

DebugRegisters FromKvm(const struct kvm_debugregs& debug);
struct kvm_debugregs ToKvm(const DebugRegisters& debug);

std::vector<XcrValue> FromKvm(const struct kvm_xcrs& xcrs);
struct kvm_xcrs ToKvm(const std::vector<XcrValue>& xcrs);  // at most KVM_MAX_XCRS

VcpuEvents FromKvm(const struct kvm_vcpu_events& events);
struct kvm_vcpu_events ToKvm(const VcpuEvents& events);

CpuidEntry FromKvm(const struct kvm_cpuid_entry2& entry);
struct kvm_cpuid_entry2 ToKvm(const CpuidEntry& entry);

PicState FromKvm(const struct kvm_pic_state& pic);
struct kvm_pic_state ToKvm(const PicState& pic);

IoapicState FromKvm(const struct kvm_ioapic_state& ioapic);
struct kvm_ioapic_state ToKvm(const IoapicState& ioapic);

PitState FromKvm(const struct kvm_pit_state2& pit);
struct kvm_pit_state2 ToKvm(const PitState& pit);

struct kvm_irq_routing_entry ToKvm(const IrqRoute& route);

}  // namespace drover

#endif  // DROVER_VMM_KVM_STATE_CONVERT_H_
