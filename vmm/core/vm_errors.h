#ifndef DROVER_VMM_CORE_VM_ERRORS_H_
#define DROVER_VMM_CORE_VM_ERRORS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "vmm/core/memory_region.h"

namespace drover {

// The one rule for the errors of Vm (vm.h): code, message and errno of each kind of refusal.
absl::Status UnknownSlot(MemorySlot slot);           // NOT_FOUND, ENOENT
absl::Status Malformed(absl::string_view what);      // INVALID_ARGUMENT, EINVAL
absl::Status OutsideRegion(absl::string_view what);  // OUT_OF_RANGE, EFAULT
absl::Status Wraps(absl::string_view what);          // OUT_OF_RANGE, EOVERFLOW
absl::Status AlreadyThere(absl::string_view what);   // ALREADY_EXISTS, EEXIST
absl::Status Unsupported(absl::string_view what);    // UNIMPLEMENTED, EOPNOTSUPP

// OutsideRegion unless [address, address + size), which does not wrap, lies within guest-physical
// addresses of so many bits; 0: nobody knows how many, and anything is good.
absl::Status CheckPhysicalBits(uint64_t address, uint64_t size, uint32_t bits);

}  // namespace drover

#endif  // DROVER_VMM_CORE_VM_ERRORS_H_
