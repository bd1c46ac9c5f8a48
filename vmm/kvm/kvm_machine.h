#ifndef DROVER_VMM_KVM_KVM_MACHINE_H_
#define DROVER_VMM_KVM_KVM_MACHINE_H_

#include <linux/kvm.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "vmm/base/fd.h"
#include "vmm/base/mutex.h"
#include "vmm/core/capabilities.h"
#include "vmm/core/memory_slots.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/dirty_rings.h"
#include "vmm/kvm/kvm_irqchip.h"
#include "vmm/kvm/kvm_vcpu_parts.h"

namespace drover {

// One host's KVM: the open /dev/kvm and what never changes about it. Thread-safe, but
// for Withhold.
class KvmHost {
 public:
  KvmHost(Fd kvm, BackendCapabilities capabilities, size_t run_bytes)
      : kvm_(std::move(kvm)), capabilities_(std::move(capabilities)), run_bytes_(run_bytes) {}

  int fd() const { return kvm_.get(); }
  const BackendCapabilities& capabilities() const { return capabilities_; }
  // As Hypervisor::Withhold: before the first VM.
  absl::Status Withhold(const std::vector<std::string>& names) {
    return capabilities_.WithholdAll(names);
  }
  size_t run_bytes() const { return run_bytes_; }  // of a vCPU's struct kvm_run
  // Asked once: it costs a quarter of a millisecond. Valid as long as the host.
  absl::StatusOr<const CpuidEntries*> SupportedCpuid();
  // ListSaveableMsrs of the first vCPU that asks: the same for all of a host. Valid as long as the
  // host.
  absl::StatusOr<const std::vector<uint32_t>*> SaveableMsrs(int vcpu_fd);

 private:
  const Fd kvm_;
  BackendCapabilities capabilities_;
  const size_t run_bytes_;
  Mutex mutex_;
  CpuidEntries supported_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint32_t> saveable_msrs_ ABSL_GUARDED_BY(mutex_);
};

// A VM without memory, made ahead.
struct SpareVm {
  Fd vm;
  std::optional<KvmVcpuParts> first_vcpu;
};

// What the handles of one VM and its vCPUs share; ends with the last of them. Thread-safe.
struct KvmMachine {
  KvmMachine(std::shared_ptr<KvmHost> on, SpareVm spare, std::unique_ptr<GuestMemory> memory)
      : host(std::move(on)),
        slots(std::move(memory), host->capabilities().memory_slots,
              [fd = spare.vm.get(), bits = host->capabilities().guest_physical_bits](
                  const SlotMapping& mapping) { return Apply(fd, bits, mapping); }),
        vm(std::move(spare.vm)),
        irqchip(vm.get()),
        rings(/*has_vcpus=*/spare.first_vcpu.has_value()),
        first_vcpu(std::move(spare.first_vcpu)) {}

  // vCPU 0, where it was made ahead; once.
  std::optional<KvmVcpuParts> TakeFirstVcpu() {
    MutexLock lock(&mutex);
    return std::exchange(first_vcpu, std::nullopt);
  }

  // KVM_SET_USER_MEMORY_REGION, within so many guest-physical bits.
  static absl::Status Apply(int vm_fd, uint32_t physical_bits, const SlotMapping& mapping);

  const std::shared_ptr<KvmHost> host;
  MemorySlots slots;
  const Fd vm;  // closed before the memory goes
  KvmIrqchip irqchip;
  DirtyRings rings;
  Mutex mutex;
  std::optional<KvmVcpuParts> first_vcpu ABSL_GUARDED_BY(mutex);
};

}  // namespace drover

#endif  // DROVER_VMM_KVM_KVM_MACHINE_H_
