#ifndef DROVER_VMM_CORE_NESTED_STATE_H_
#define DROVER_VMM_CORE_NESTED_STATE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace drover {

// Whose layout (KVM_STATE_NESTED_FORMAT_*).
enum class NestedFormat : uint16_t { kVmx = 0, kSvm = 1 };

// KVM_STATE_NESTED_*, of NestedStateBuffer::flags.
constexpr uint16_t kNestedGuestMode = 1 << 0;   // the nested guest runs
constexpr uint16_t kNestedRunPending = 1 << 1;  // it was entered, and has run no instruction yet
constexpr uint16_t kNestedEvmcs = 1 << 2;       // VMX
constexpr uint16_t kNestedMtfPending = 1 << 3;  // VMX
constexpr uint16_t kNestedGifSet = 1 << 8;      // SVM: global interrupt flag

constexpr uint64_t kNestedNoAddress = ~uint64_t{0};  // VMX: no VMXON, or no current VMCS

// The header of the VMX layout (struct kvm_vmx_nested_state_hdr).
struct VmxNestedHeader {
  static constexpr uint16_t kSmmGuestMode = 1 << 0;
  static constexpr uint16_t kSmmVmxon = 1 << 1;
  static constexpr uint32_t kPreemptionTimerDeadline = 1 << 0;

  uint64_t vmxon_pa = kNestedNoAddress;
  uint64_t vmcs12_pa = kNestedNoAddress;
  uint16_t smm_flags = 0;
  uint16_t pad = 0;
  uint32_t flags = 0;
  uint64_t preemption_timer_deadline = 0;
  bool operator==(const VmxNestedHeader&) const = default;
};
static_assert(sizeof(VmxNestedHeader) == 32);

// The header of the SVM layout (struct kvm_svm_nested_state_hdr).
struct SvmNestedHeader {
  uint64_t vmcb_pa = 0;
  bool operator==(const SvmNestedHeader&) const = default;
};

// What a vCPU keeps for a guest that is itself a hypervisor, in KVM's layout of either vendor
// (api.rst KVM_GET_NESTED_STATE; struct kvm_nested_state): 128 bytes of header and up to 8192 of
// data. Of fixed size: nothing is allocated. A plain value; thread-compatible. (kvm-bindings
// KvmNestedStateBuffer)
struct NestedStateBuffer {
  static constexpr size_t kHeaderBytes = 128;
  static constexpr size_t kPageBytes = 4096;  // a VMCB, a VMCS12, a shadow VMCS12
  static constexpr size_t kDataBytes = 2 * kPageBytes;
  static constexpr size_t kBytes = kHeaderBytes + kDataBytes;

  uint16_t flags = 0;
  uint16_t format = 0;
  uint32_t size = 0;  // of header and data as far as they are used
  std::array<uint8_t, kHeaderBytes - 8> header = {};
  std::array<uint8_t, kDataBytes> data = {};

  // Ready for KVM to write into: `size` says how much there is room for.
  static NestedStateBuffer Empty();
  // Of a vCPU whose guest is no hypervisor: a header only.
  static NestedStateBuffer Idle(NestedFormat format);
  // The bytes of a state as content() gave them, whichever vendor's. INVALID_ARGUMENT when its size
  // is not that of the bytes, or more than fits.
  static absl::StatusOr<NestedStateBuffer> FromBytes(std::span<const uint8_t> bytes);

  // `size` bytes, at most kBytes.
  std::span<const uint8_t> content() const;
  // Copies content() into `out`. Too small: an error with E2BIG that names the size needed,
  // which is `size`, and nothing written.
  absl::Status CopyTo(std::span<uint8_t> out) const;

  bool header_only() const { return size == kHeaderBytes; }
  VmxNestedHeader vmx() const;
  SvmNestedHeader svm() const;
  void SetVmx(const VmxNestedHeader& vmx);
  void SetSvm(const SvmNestedHeader& svm);

  // INVALID_ARGUMENT unless KVM could take it on a vCPU of that format whose host keeps at most
  // `host_bytes` (KVM_CAP_NESTED_STATE): the checks that KVM makes before it changes anything.
  absl::Status Check(NestedFormat expected, size_t host_bytes) const;

  // The same content; what lies behind `size` does not count.
  bool operator==(const NestedStateBuffer& other) const;

 private:
  absl::Status CheckVmx() const;
  absl::Status CheckSvm() const;
};
static_assert(sizeof(NestedStateBuffer) == NestedStateBuffer::kBytes);
static_assert(offsetof(NestedStateBuffer, data) == NestedStateBuffer::kHeaderBytes);

std::ostream& operator<<(std::ostream& out, const NestedStateBuffer& state);

}  // namespace drover

#endif  // DROVER_VMM_CORE_NESTED_STATE_H_
