#include "e2e/guest/vcpu_copy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cstddef>
#include <memory>

namespace drover {
namespace {

std::string Call(int fd, unsigned long request, const void* argument, const std::string& what) {
  if (ioctl(fd, request, argument) >= 0) return "";
  return what + ": " + strerror(errno);
}

// One at a time: which one failed is then known.
struct OneMsr {
  kvm_msrs header;
  kvm_msr_entry entry;
};
static_assert(sizeof(kvm_msrs) == offsetof(OneMsr, entry));

bool GetMsr(int vcpu, uint32_t index, kvm_msr_entry* entry) {
  OneMsr one = {};
  one.header.nmsrs = 1;
  one.entry.index = index;
  const bool got = ioctl(vcpu, KVM_GET_MSRS, &one) == 1;
  *entry = one.entry;
  return got;
}

std::string SetMsrs(int vcpu, const std::vector<kvm_msr_entry>& msrs) {
  for (const kvm_msr_entry& entry : msrs) {
    OneMsr one = {};
    one.header.nmsrs = 1;
    one.entry = entry;
    if (ioctl(vcpu, KVM_SET_MSRS, &one) == 1) continue;
    char text[64];
    snprintf(text, sizeof(text), "KVM_SET_MSRS 0x%x = 0x%llx", entry.index, entry.data);
    return text;
  }
  return "";
}

std::string GetNested(int vcpu, NestedBuffer* nested) {
  *nested = {};
  nested->size = sizeof(*nested);
  return Call(vcpu, KVM_GET_NESTED_STATE, nested, "KVM_GET_NESTED_STATE");
}

std::string First(std::initializer_list<std::string> errors) {
  for (const std::string& error : errors) {
    if (!error.empty()) return error;
  }
  return "";
}

}  // namespace

const char* PartName(VcpuPart part) {
  static constexpr const char* kNames[] = {"SREGS", "REGS",  "XCRS",   "XSAVE",  "DEBUGREGS",
                                           "MSRS",  "LAPIC", "NESTED", "EVENTS", "MP_STATE"};
  return kNames[static_cast<int>(part)];
}

std::vector<VcpuPart> WorkingOrder() {
  std::vector<VcpuPart> order;
  for (int i = 0; i <= static_cast<int>(VcpuPart::kMpState); i++) {
    order.push_back(static_cast<VcpuPart>(i));
  }
  return order;
}

std::vector<uint32_t> ListedMsrs(int kvm) {
  std::vector<uint32_t> buffer(1 + 1024);
  buffer[0] = 1024;
  if (ioctl(kvm, KVM_GET_MSR_INDEX_LIST, buffer.data()) < 0) return {};
  return {buffer.begin() + 1, buffer.begin() + 1 + buffer[0]};
}

// MP_STATE first: KVM_GET_MP_STATE takes in pending INITs and SIPIs.
std::string GetVcpu(int vcpu, const std::vector<uint32_t>& msrs, VcpuCopy* copy) {
  copy->msrs.clear();
  for (uint32_t index : msrs) {
    kvm_msr_entry entry;
    if (GetMsr(vcpu, index, &entry)) copy->msrs.push_back(entry);
  }
  return First({Call(vcpu, KVM_GET_MP_STATE, &copy->mp_state, "KVM_GET_MP_STATE"),
                Call(vcpu, KVM_GET_REGS, &copy->regs, "KVM_GET_REGS"),
                Call(vcpu, KVM_GET_SREGS, &copy->sregs, "KVM_GET_SREGS"),
                Call(vcpu, KVM_GET_XCRS, &copy->xcrs, "KVM_GET_XCRS"),
                Call(vcpu, KVM_GET_XSAVE, &copy->xsave, "KVM_GET_XSAVE"),
                Call(vcpu, KVM_GET_DEBUGREGS, &copy->debugregs, "KVM_GET_DEBUGREGS"),
                Call(vcpu, KVM_GET_LAPIC, &copy->lapic, "KVM_GET_LAPIC"),
                Call(vcpu, KVM_GET_VCPU_EVENTS, &copy->events, "KVM_GET_VCPU_EVENTS"),
                GetNested(vcpu, &copy->nested)});
}

std::string SetPart(int vcpu, VcpuPart part, const VcpuCopy& copy) {
  switch (part) {
    case VcpuPart::kSregs:
      return Call(vcpu, KVM_SET_SREGS, &copy.sregs, "KVM_SET_SREGS");
    case VcpuPart::kRegs:
      return Call(vcpu, KVM_SET_REGS, &copy.regs, "KVM_SET_REGS");
    case VcpuPart::kXcrs:
      return Call(vcpu, KVM_SET_XCRS, &copy.xcrs, "KVM_SET_XCRS");
    case VcpuPart::kXsave:
      return Call(vcpu, KVM_SET_XSAVE, &copy.xsave, "KVM_SET_XSAVE");
    case VcpuPart::kDebugRegs:
      return Call(vcpu, KVM_SET_DEBUGREGS, &copy.debugregs, "KVM_SET_DEBUGREGS");
    case VcpuPart::kMsrs:
      return SetMsrs(vcpu, copy.msrs);
    case VcpuPart::kLapic:
      return Call(vcpu, KVM_SET_LAPIC, &copy.lapic, "KVM_SET_LAPIC");
    case VcpuPart::kNested:
      return Call(vcpu, KVM_SET_NESTED_STATE, &copy.nested, "KVM_SET_NESTED_STATE");
    case VcpuPart::kEvents:
      return Call(vcpu, KVM_SET_VCPU_EVENTS, &copy.events, "KVM_SET_VCPU_EVENTS");
    case VcpuPart::kMpState:
      return Call(vcpu, KVM_SET_MP_STATE, &copy.mp_state, "KVM_SET_MP_STATE");
  }
  return "no such part";
}

std::string SetVcpu(int vcpu, const std::vector<VcpuPart>& order, const VcpuCopy& copy) {
  for (VcpuPart part : order) {
    const std::string error = SetPart(vcpu, part, copy);
    if (!error.empty()) return error;
  }
  return "";
}

}  // namespace drover
