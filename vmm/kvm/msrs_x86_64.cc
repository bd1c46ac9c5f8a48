#include <cstring>
#include <span>
#include <vector>

#include "absl/strings/str_format.h"
#include "vmm/base/log.h"
#include "vmm/kvm/kvm_ioctl.h"
#include "vmm/kvm/msrs.h"

namespace drover {
namespace {

struct Msr {
  uint32_t index;
  uint64_t value;
};

// What firmware leaves behind (Intel SDM vol. 4; vol. 3A §12.11 MTRRs, §12.12 PAT).
constexpr Msr kBoot[] = {
    {0x1A0, 1},                   // IA32_MISC_ENABLE: fast strings
    {0x277, 0x0007040600070406},  // IA32_PAT at reset
    {0x2FF, 1u << 11 | 6},        // IA32_MTRR_DEF_TYPE: on, write-back
};

// What a guest changes, at its value at reset.
constexpr Msr kReset[] = {
    // KVM's own first: each gives KVM the address of guest memory to write to.
    {0x4B564D01, 0},  // MSR_KVM_SYSTEM_TIME_NEW
    {0x12, 0},        // MSR_KVM_SYSTEM_TIME
    {0x4B564D02, 0},  // MSR_KVM_ASYNC_PF_EN
    {0x4B564D06, 0},  // MSR_KVM_ASYNC_PF_INT
    {0x4B564D03, 0},  // MSR_KVM_STEAL_TIME
    {0x4B564D04, 0},  // MSR_KVM_EOI_EN
    {0x4B564D05, 1},  // MSR_KVM_POLL_CONTROL
    {0x6E0, 0},       // IA32_TSC_DEADLINE
    {0x174, 0},       // IA32_SYSENTER_CS, _ESP, _EIP
    {0x175, 0},
    {0x176, 0},
    {0xC0000081, 0},  // STAR, LSTAR, CSTAR, SFMASK
    {0xC0000082, 0},
    {0xC0000083, 0},
    {0xC0000084, 0},
    {0xC0000102, 0},  // KERNEL_GS_BASE
    {0xC0000103, 0},  // TSC_AUX
    {0x48, 0},        // IA32_SPEC_CTRL
    {0x140, 0},       // MISC_FEATURES_ENABLES
    {0x1C4, 0},       // IA32_XFD
    {0x1C5, 0},       // IA32_XFD_ERR
    {0x1D9, 0},       // IA32_DEBUGCTL
    {0xDA0, 0},       // IA32_XSS
    {0xE1, 0},        // IA32_UMWAIT_CONTROL
    {0xC0010117, 0},  // VM_HSAVE_PA
    // MTRRs: no range but the default.
    {0x200, 0},
    {0x201, 0},
    {0x202, 0},
    {0x203, 0},
    {0x204, 0},
    {0x205, 0},
    {0x206, 0},
    {0x207, 0},
    {0x208, 0},
    {0x209, 0},
    {0x20A, 0},
    {0x20B, 0},
    {0x20C, 0},
    {0x20D, 0},
    {0x20E, 0},
    {0x20F, 0},
    {0x250, 0},
    {0x258, 0},
    {0x259, 0},
    {0x268, 0},
    {0x269, 0},
    {0x26A, 0},
    {0x26B, 0},
    {0x26C, 0},
    {0x26D, 0},
    {0x26E, 0},
    {0x26F, 0},
};

// Sets as many of `msrs` as KVM takes in one call; how many that were.
absl::StatusOr<size_t> SetSome(int vcpu_fd, std::span<const Msr> msrs) {
  std::vector<uint64_t> buffer(
      (sizeof(struct kvm_msrs) + msrs.size() * sizeof(struct kvm_msr_entry)) / 8 + 1);
  auto* request = reinterpret_cast<struct kvm_msrs*>(buffer.data());
  request->nmsrs = static_cast<uint32_t>(msrs.size());
  for (size_t i = 0; i < msrs.size(); ++i)
    request->entries[i] = {.index = msrs[i].index, .data = msrs[i].value};
  const int taken = ioctl(vcpu_fd, KVM_SET_MSRS, request);
  if (taken < 0) return PosixStatus(errno, "KVM_SET_MSRS", "");
  return static_cast<size_t>(taken);
}

absl::Status SetAll(int vcpu_fd, std::span<const Msr> msrs) {
  while (!msrs.empty()) {
    ASSIGN_OR_RETURN(const size_t taken, SetSome(vcpu_fd, msrs));
    if (taken >= msrs.size()) break;
    Log(LogLevel::kDebug, "KVM does not take an MSR",
        {{"msr", absl::StrFormat("%#x", msrs[taken].index)},
         {"value", absl::StrFormat("%#x", msrs[taken].value)}});
    msrs = msrs.subspan(taken + 1);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SetBootMsrs(int vcpu_fd) { return SetAll(vcpu_fd, kBoot); }

absl::Status ResetMsrs(int vcpu_fd) {
  RETURN_IF_ERROR(SetAll(vcpu_fd, kReset));
  return SetBootMsrs(vcpu_fd);
}

}  // namespace drover
