#ifndef DROVER_VMM_KVM_MSRS_H_
#define DROVER_VMM_KVM_MSRS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/core/vcpu_state.h"

namespace drover {

// The MSRs of a vCPU at boot: what firmware leaves (string instructions, write-back memory, PAT).
// Those that this KVM refuses are left as they are, with a debug line.
absl::Status SetBootMsrs(int vcpu_fd);

// Those that a guest changes, back to their values at reset, then as SetBootMsrs. The TSC runs on.
absl::Status ResetMsrs(int vcpu_fd);

// The MSRs that a vCPU's state is kept in, ascending: those that KVM lists
// (KVM_GET_MSR_INDEX_LIST), MTRRs and machine check banks, which it does not, as far as this vCPU
// has them, and without those that are state of something else.
absl::StatusOr<std::vector<uint32_t>> ListSaveableMsrs(int kvm_fd, int vcpu_fd);

// The values of `indexes`, in their order; an error names the first that cannot be read.
absl::StatusOr<std::vector<MsrValue>> ReadMsrs(int vcpu_fd, std::span<const uint32_t> indexes);
// Sets MSRs of a state in the order in which they depend on each other, and leaves out those that
// hold their value already. INVALID_ARGUMENT names the index and value of one that does not take.
absl::Status RestoreMsrs(int vcpu_fd, std::span<const MsrValue> msrs);

// See Vcpu::GetMsr and SetMsr.
absl::StatusOr<uint64_t> ReadMsr(int vcpu_fd, uint32_t index);
absl::Status WriteMsr(int vcpu_fd, uint32_t index, uint64_t value);

}  // namespace drover

#endif  // DROVER_VMM_KVM_MSRS_H_
