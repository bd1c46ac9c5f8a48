#ifndef DROVER_VMM_KVM_MSRS_H_
#define DROVER_VMM_KVM_MSRS_H_

#include "absl/status/status.h"

namespace drover {

// The MSRs of a vCPU at boot: what firmware leaves (string instructions, write-back memory, PAT).
// Those that this KVM refuses are left as they are, with a debug line.
absl::Status SetBootMsrs(int vcpu_fd);

// Those that a guest changes, back to their values at reset, then as SetBootMsrs. The TSC runs on.
absl::Status ResetMsrs(int vcpu_fd);

}  // namespace drover

#endif  // DROVER_VMM_KVM_MSRS_H_
