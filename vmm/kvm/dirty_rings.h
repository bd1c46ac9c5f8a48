#ifndef DROVER_VMM_KVM_DIRTY_RINGS_H_
#define DROVER_VMM_KVM_DIRTY_RINGS_H_

#include <linux/kvm.h>

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "vmm/base/mapped_region.h"
#include "vmm/base/mutex.h"

namespace drover {

// The dirty rings of a VM's vCPUs (KVM api.rst §8.29, KVM_CAP_DIRTY_LOG_RING_ACQ_REL): off until
// turned on, and then on for the VM's life. Thread-safe.
class DirtyRings {
 public:
  // `has_vcpus`: of a VM that was made with one.
  explicit DirtyRings(bool has_vcpus) : has_vcpus_(has_vcpus) {}

  // Makes every vCPU from now on have a ring of `bytes`. Only before the first; once.
  absl::Status TurnOn(int vm_fd, uint32_t bytes);
  // Entries of a ring; 0: off.
  uint32_t pages() const;
  bool has_vcpus() const;

  // Every new vCPU, once it exists in KVM. Errors of mmap.
  absl::Status AddVcpu(int vcpu_fd);

  // Takes every entry of every ring, then lets KVM reset them: their pages are watched again, and a
  // vCPU whose ring was full can run.
  absl::Status Drain(int vm_fd, absl::FunctionRef<void(uint32_t slot, uint64_t page)> take);

 private:
  struct Ring {
    MappedRegion entries;
    uint32_t next = 0;  // to be read; modulo the ring's size
  };
  // How many were taken.
  uint32_t DrainOne(Ring* ring, absl::FunctionRef<void(uint32_t slot, uint64_t page)> take)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  uint32_t pages_ ABSL_GUARDED_BY(mutex_) = 0;
  bool has_vcpus_ ABSL_GUARDED_BY(mutex_);
  bool to_reset_ ABSL_GUARDED_BY(mutex_) = false;  // taken entries that KVM has not reset
  std::vector<Ring> rings_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace drover

#endif  // DROVER_VMM_KVM_DIRTY_RINGS_H_
