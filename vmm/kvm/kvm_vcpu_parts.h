#ifndef DROVER_VMM_KVM_KVM_VCPU_PARTS_H_
#define DROVER_VMM_KVM_KVM_VCPU_PARTS_H_

#include <linux/kvm.h>

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/fd.h"
#include "vmm/base/mapped_region.h"

namespace drover {

class KvmHost;

// What a vCPU is before anything was set: the state to come back to.
struct VcpuPowerOn {
  struct kvm_regs regs = {};
  struct kvm_sregs sregs = {};
  std::optional<struct kvm_lapic_state> lapic;  // with an in-kernel irqchip
};

// A vCPU as KVM has it, apart from its machine: it can be made before there is one.
struct KvmVcpuParts {
  Fd fd;
  MappedRegion run;         // struct kvm_run and its I/O data
  uint32_t told_vcpus = 0;  // how many vCPUs its CPUID tells of; 0: it has no CPUID yet
  std::optional<VcpuPowerOn> power_on;
};

// KVM_CREATE_VCPU.
absl::StatusOr<KvmVcpuParts> MakeVcpuParts(const KvmHost& host, int vm_fd, uint32_t id);

// Gives the vCPU, which has not run, the CPUID of one of `vcpu_count`, and notes its state at
// power-on; what was done already is left out. `irqchip`: the VM has one in the kernel.
absl::Status PrepareVcpu(KvmHost& host, uint32_t id, uint32_t vcpu_count, bool irqchip,
                         KvmVcpuParts* parts);

}  // namespace drover

#endif  // DROVER_VMM_KVM_KVM_VCPU_PARTS_H_
