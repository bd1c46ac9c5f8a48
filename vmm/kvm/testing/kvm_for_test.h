#ifndef DROVER_VMM_KVM_TESTING_KVM_FOR_TEST_H_
#define DROVER_VMM_KVM_TESTING_KVM_FOR_TEST_H_

#include <fcntl.h>

#include <memory>

#include "absl/status/statusor.h"
#include "vmm/base/fd.h"
#include "vmm/kvm/kvm_hypervisor.h"

namespace drover {

// The machine's KVM; UNAVAILABLE with the reason where there is none for us.
inline absl::StatusOr<std::unique_ptr<KvmHypervisor>> OpenKvmForTest() {
  absl::StatusOr<Fd> kvm = OpenFile("/dev/kvm", O_RDWR);
  if (!kvm.ok()) return absl::UnavailableError(kvm.status().message());
  const Fd userfaultfd = OpenFile("/dev/userfaultfd", O_RDWR).value_or(Fd());
  return KvmHypervisor::Create(*std::move(kvm), userfaultfd.get());
}

}  // namespace drover

#endif  // DROVER_VMM_KVM_TESTING_KVM_FOR_TEST_H_
