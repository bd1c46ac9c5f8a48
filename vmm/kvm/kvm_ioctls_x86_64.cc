#include <linux/kvm.h>

#include "vmm/kvm/kvm_ioctls.h"

namespace drover {

std::vector<uint64_t> KvmSetupIoctls() {
  return {KVM_GET_API_VERSION,
          KVM_CHECK_EXTENSION,
          KVM_CREATE_VM,
          KVM_GET_VCPU_MMAP_SIZE,
          KVM_GET_SUPPORTED_CPUID,
          KVM_GET_MSR_INDEX_LIST,
          KVM_ENABLE_CAP,
          KVM_SET_USER_MEMORY_REGION,
          KVM_SET_TSS_ADDR,
          KVM_SET_IDENTITY_MAP_ADDR,
          KVM_CREATE_IRQCHIP,
          KVM_CREATE_PIT2,
          KVM_CREATE_VCPU,
          KVM_SET_CPUID2,
          KVM_IRQFD,
          KVM_IOEVENTFD,
          KVM_SET_GSI_ROUTING,
          KVM_SET_SIGNAL_MASK};
}

std::vector<uint64_t> KvmMainIoctls() {
  return {KVM_CHECK_EXTENSION,  KVM_IRQ_LINE,
          KVM_KVMCLOCK_CTRL,    KVM_GET_REGS,
          KVM_SET_REGS,         KVM_GET_SREGS,
          KVM_SET_SREGS,        KVM_GET_FPU,
          KVM_SET_FPU,          KVM_GET_MSRS,
          KVM_SET_MSRS,         KVM_GET_LAPIC,
          KVM_SET_LAPIC,        KVM_GET_MP_STATE,
          KVM_SET_MP_STATE,     KVM_GET_VCPU_EVENTS,
          KVM_SET_VCPU_EVENTS,  KVM_GET_DEBUGREGS,
          KVM_SET_DEBUGREGS,    KVM_GET_XCRS,
          KVM_SET_XCRS,         KVM_GET_XSAVE,
          KVM_SET_XSAVE,        KVM_GET_IRQCHIP,
          KVM_SET_IRQCHIP,      KVM_GET_PIT2,
          KVM_SET_PIT2,         KVM_GET_CLOCK,
          KVM_SET_CLOCK,        KVM_GET_TSC_KHZ,
          KVM_SET_CPUID2,       KVM_REINJECT_CONTROL,
          KVM_SET_NESTED_STATE, KVM_RUN};
}

std::vector<uint64_t> KvmVcpuIoctls() {
  return {KVM_RUN, KVM_IRQ_LINE, KVM_GET_REGS, KVM_GET_SREGS, KVM_GET_VCPU_EVENTS, KVM_TRANSLATE};
}

}  // namespace drover
