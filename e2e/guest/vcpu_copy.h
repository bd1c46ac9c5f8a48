// The parts of a vCPU's state as KVM's calls hand them out, copied one by one, in any order: for
// finding out which orders work. x86-64 only.
#ifndef E2E_GUEST_VCPU_COPY_H_
#define E2E_GUEST_VCPU_COPY_H_

#include <linux/kvm.h>

#include <cstdint>
#include <string>
#include <vector>

namespace drover {

enum class VcpuPart {
  kSregs,
  kRegs,
  kXcrs,
  kXsave,
  kDebugRegs,
  kMsrs,
  kLapic,
  kNested,
  kEvents,
  kMpState,
};

const char* PartName(VcpuPart part);

// Every part once, in an order that works for a vCPU that runs a nested guest.
std::vector<VcpuPart> WorkingOrder();

// kvm_nested_state with room for either vendor's data: 128 bytes and 8192.
struct NestedBuffer {
  uint16_t flags;
  uint16_t format;
  uint32_t size;
  uint8_t header[120];
  uint8_t data[8192];
};
static_assert(sizeof(NestedBuffer) == 8320);

struct VcpuCopy {
  kvm_sregs sregs;
  kvm_regs regs;
  kvm_xcrs xcrs;
  kvm_xsave xsave;
  kvm_debugregs debugregs;
  std::vector<kvm_msr_entry> msrs;
  kvm_lapic_state lapic;
  NestedBuffer nested;
  kvm_vcpu_events events;
  kvm_mp_state mp_state;
};

// The MSRs that KVM_GET_MSR_INDEX_LIST names.
std::vector<uint32_t> ListedMsrs(int kvm);

// Each returns "" or what failed and why.
std::string GetVcpu(int vcpu, const std::vector<uint32_t>& msrs, VcpuCopy* copy);
std::string SetPart(int vcpu, VcpuPart part, const VcpuCopy& copy);
std::string SetVcpu(int vcpu, const std::vector<VcpuPart>& order, const VcpuCopy& copy);

}  // namespace drover

#endif  // E2E_GUEST_VCPU_COPY_H_
