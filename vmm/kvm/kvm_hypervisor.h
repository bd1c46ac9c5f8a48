#ifndef DROVER_VMM_KVM_KVM_HYPERVISOR_H_
#define DROVER_VMM_KVM_KVM_HYPERVISOR_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/fd.h"
#include "vmm/base/mutex.h"
#include "vmm/core/hypervisor.h"

namespace drover {

class KvmHost;
struct SpareVm;

// Linux KVM. Thread-safe. Takes SIGRTMIN of the process for itself, to kick vCPUs: a handler that
// does nothing.
class KvmHypervisor : public Hypervisor {
 public:
  // `kvm` is an open /dev/kvm, `userfaultfd_device` an open /dev/userfaultfd, borrowed for the
  // probe alone, or -1: then there is no userfaultfd. UNIMPLEMENTED unless KVM's API version is 12
  // and it has what every Drover machine needs (immediate exit).
  static absl::StatusOr<std::unique_ptr<KvmHypervisor>> Create(Fd kvm, int userfaultfd_device = -1);
  ~KvmHypervisor() override;

  const BackendCapabilities& capabilities() const override;
  absl::Status Withhold(const std::vector<std::string>& names) override;
  absl::StatusOr<std::unique_ptr<Vm>> CreateVm(std::unique_ptr<GuestMemory> memory) override;

  // Does now what belongs to no VM yet, so that the next CreateVm and the first vCPU are faster:
  // reads the supported CPUID and makes an empty KVM VM. With `with_irqchip` that VM has the
  // interrupt controller and the PIT of default IrqchipOptions already, and must be given no other:
  // making them can wait milliseconds for a kernel thread, and the memory slots after them some
  // more, for a grace period that then has passed long before there is a VM. It then has its vCPU 0
  // as well, with the CPUID of an only one.
  absl::Status Prewarm(bool with_irqchip = false);

 private:
  explicit KvmHypervisor(std::shared_ptr<KvmHost> host);
  absl::StatusOr<SpareVm> MakeVm(bool with_irqchip);
  absl::StatusOr<SpareVm> TakeVm();

  const std::shared_ptr<KvmHost> host_;
  Mutex mutex_;
  std::unique_ptr<SpareVm> spare_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace drover

#endif  // DROVER_VMM_KVM_KVM_HYPERVISOR_H_
