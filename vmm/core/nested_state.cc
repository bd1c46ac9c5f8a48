#include "vmm/core/nested_state.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "vmm/base/status.h"
#include "vmm/core/vm_errors.h"

namespace drover {
namespace {

constexpr uint16_t kVmxFlags =
    kNestedGuestMode | kNestedRunPending | kNestedEvmcs | kNestedMtfPending;
constexpr uint16_t kSvmFlags = kNestedGuestMode | kNestedRunPending | kNestedGifSet;

absl::Status Wrong(absl::string_view what) {
  return Malformed(absl::StrCat("nested state: ", what));
}

bool PageAligned(uint64_t address) { return address % NestedStateBuffer::kPageBytes == 0; }

}  // namespace

NestedStateBuffer NestedStateBuffer::Empty() {
  NestedStateBuffer state;
  state.size = kBytes;
  return state;
}

NestedStateBuffer NestedStateBuffer::Idle(NestedFormat format) {
  NestedStateBuffer state;
  state.format = static_cast<uint16_t>(format);
  state.size = kHeaderBytes;
  if (format == NestedFormat::kSvm) {
    state.flags = kNestedGifSet;
  } else {
    state.SetVmx({});
  }
  return state;
}

absl::StatusOr<NestedStateBuffer> NestedStateBuffer::FromBytes(std::span<const uint8_t> bytes) {
  if (bytes.size() < kHeaderBytes || bytes.size() > kBytes)
    return Wrong(absl::StrCat(bytes.size(), " bytes, not ", kHeaderBytes, " to ", kBytes));
  NestedStateBuffer state;
  memcpy(&state, bytes.data(), bytes.size());
  if (state.size != bytes.size())
    return Wrong(absl::StrCat(bytes.size(), " bytes that say they are ", state.size));
  return state;
}

std::span<const uint8_t> NestedStateBuffer::content() const {
  return {reinterpret_cast<const uint8_t*>(this), std::min<size_t>(size, kBytes)};
}

absl::Status NestedStateBuffer::CopyTo(std::span<uint8_t> out) const {
  if (out.size() < content().size())
    return PosixStatus(E2BIG, "nested state",
                       absl::StrCat(content().size(), " bytes needed, room for ", out.size()));
  std::ranges::copy(content(), out.begin());
  return absl::OkStatus();
}

VmxNestedHeader NestedStateBuffer::vmx() const {
  VmxNestedHeader vmx;
  memcpy(&vmx, header.data(), sizeof(vmx));
  return vmx;
}

SvmNestedHeader NestedStateBuffer::svm() const {
  SvmNestedHeader svm;
  memcpy(&svm, header.data(), sizeof(svm));
  return svm;
}

void NestedStateBuffer::SetVmx(const VmxNestedHeader& vmx) {
  memcpy(header.data(), &vmx, sizeof(vmx));
}

void NestedStateBuffer::SetSvm(const SvmNestedHeader& svm) {
  memcpy(header.data(), &svm, sizeof(svm));
}

absl::Status NestedStateBuffer::Check(NestedFormat expected, size_t host_bytes) const {
  if (format != static_cast<uint16_t>(expected))
    return Wrong(
        absl::StrCat("format ", format, ", the vCPU's is ", static_cast<uint16_t>(expected)));
  if (size < kHeaderBytes || size > kBytes || (size - kHeaderBytes) % kPageBytes != 0)
    return Wrong(absl::StrCat("size ", size));
  if (size > host_bytes)
    return Wrong(absl::StrCat(size, " bytes, the host keeps at most ", host_bytes));
  const uint16_t known = expected == NestedFormat::kVmx ? kVmxFlags : kSvmFlags;
  if (flags & ~known) return Wrong(absl::StrFormat("flags %#x", flags));
  if ((flags & kNestedRunPending) && !(flags & kNestedGuestMode))
    return Wrong("an entry is pending, but no nested guest runs");
  return expected == NestedFormat::kVmx ? CheckVmx() : CheckSvm();
}

// As vmx_set_nested_state does before it changes anything.
absl::Status NestedStateBuffer::CheckVmx() const {
  const VmxNestedHeader vmx = this->vmx();
  const bool vmxon = vmx.vmxon_pa != kNestedNoAddress;
  const bool vmcs = vmx.vmcs12_pa != kNestedNoAddress;
  if (vmx.smm_flags & ~(VmxNestedHeader::kSmmGuestMode | VmxNestedHeader::kSmmVmxon))
    return Wrong(absl::StrFormat("SMM flags %#x", vmx.smm_flags));
  if (vmx.flags & ~VmxNestedHeader::kPreemptionTimerDeadline)
    return Wrong(absl::StrFormat("VMX flags %#x", vmx.flags));
  if (!vmxon && (vmcs || vmx.smm_flags != 0 || (flags & ~kNestedEvmcs)))
    return Wrong("no VMXON, but what only follows it");
  if (vmxon && !PageAligned(vmx.vmxon_pa))
    return Wrong(absl::StrFormat("VMXON region at %#x", vmx.vmxon_pa));
  if (vmcs && (!PageAligned(vmx.vmcs12_pa) || vmx.vmcs12_pa == vmx.vmxon_pa))
    return Wrong(absl::StrFormat("VMCS at %#x", vmx.vmcs12_pa));
  if ((vmx.smm_flags & VmxNestedHeader::kSmmGuestMode) &&
      (!(vmx.smm_flags & VmxNestedHeader::kSmmVmxon) || (flags & kNestedGuestMode)))
    return Wrong("a nested guest that SMM interrupted, and that yet cannot be");
  const bool needs_vmcs = (flags & kNestedGuestMode) || vmcs;
  if (needs_vmcs && !(flags & kNestedEvmcs) && !vmcs) return Wrong("a nested guest without VMCS");
  if (needs_vmcs && header_only()) return Wrong("a current VMCS, but no data");
  return absl::OkStatus();
}

// As svm_set_nested_state does before it changes anything.
absl::Status NestedStateBuffer::CheckSvm() const {
  if (size > kHeaderBytes + kPageBytes) return Wrong(absl::StrCat("size ", size, " with SVM"));
  if (!(flags & kNestedGuestMode)) return absl::OkStatus();
  if (header_only()) return Wrong("a nested guest, but no VMCB");
  if (!PageAligned(svm().vmcb_pa)) return Wrong(absl::StrFormat("VMCB at %#x", svm().vmcb_pa));
  return absl::OkStatus();
}

bool NestedStateBuffer::operator==(const NestedStateBuffer& other) const {
  return std::ranges::equal(content(), other.content());
}

std::ostream& operator<<(std::ostream& out, const NestedStateBuffer& state) {
  return out << absl::StrFormat("nested state: flags %#x format %d size %d", state.flags,
                                state.format, state.size);
}

}  // namespace drover
