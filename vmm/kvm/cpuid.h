#ifndef DROVER_VMM_KVM_CPUID_H_
#define DROVER_VMM_KVM_CPUID_H_

#include <linux/kvm.h>

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace drover {

using CpuidEntries = std::vector<struct kvm_cpuid_entry2>;

// What KVM can offer a guest (KVM_GET_SUPPORTED_CPUID on /dev/kvm): the same for every VM of a
// host. `room`: entries to begin with; it doubles while KVM has more.
absl::StatusOr<CpuidEntries> GetSupportedCpuid(int kvm_fd, uint32_t room = 128);

// Physical address bits of this host's processors (CPUID 0x80000008), 36 where it does not say.
uint32_t HostPhysicalBits();

// What one vCPU's CPUID depends on.
struct CpuidOptions {
  uint32_t vcpu_id = 0;  // also its APIC id
  uint32_t vcpu_count = 1;
  uint32_t tsc_khz = 0;  // 0: not known
  bool tsc_deadline_timer = false;
  bool irqchip = true;  // in-kernel local APIC
};

// The CPUID of a Drover machine's vCPU: KVM's features without those that the machine has no part
// of (MONITOR, the PMU, SGX, DCA), one package of `vcpu_count` cores of one thread, and the
// hypervisor's leaves.
CpuidEntries BuildCpuid(const CpuidEntries& supported, const CpuidOptions& options);

// The entry of a leaf and subleaf; nullptr where there is none.
const struct kvm_cpuid_entry2* FindCpuid(const CpuidEntries& entries, uint32_t leaf,
                                         uint32_t subleaf = 0);

// Whether the vendor is AMD or Hygon (SVM) rather than Intel (VMX).
bool IsAmd(const CpuidEntries& entries);

}  // namespace drover

#endif  // DROVER_VMM_KVM_CPUID_H_
