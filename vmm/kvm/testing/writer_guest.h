#ifndef DROVER_VMM_KVM_TESTING_WRITER_GUEST_H_
#define DROVER_VMM_KVM_TESTING_WRITER_GUEST_H_

#include <memory>

#include "absl/status/statusor.h"
#include "vmm/core/testing/dirty_suite.h"
#include "vmm/core/vm.h"

namespace drover {

// A guest that writes where it is told, in ring 3 of long mode, since a software KVM runs only that
// at full speed. It lies below GuestWriter::kReserved; page tables map the first GiB to itself, and
// neither they nor the descriptors are ever written by the processor.
class WriterGuest : public GuestWriter {
 public:
  // The vCPU is made (number 0 of one), booted, and has left its first Run.
  static absl::StatusOr<std::unique_ptr<GuestWriter>> Create(Vm& vm);

  absl::Status Write(std::span<const uint64_t> addresses, uint32_t value, DirtyLog* log) override;

 private:
  WriterGuest(std::unique_ptr<Vcpu> vcpu, std::span<uint8_t> orders)
      : vcpu_(std::move(vcpu)), orders_(orders) {}
  // Until the guest says that its orders are carried out.
  absl::Status RunToEnd(DirtyLog* log);

  const std::unique_ptr<Vcpu> vcpu_;
  const std::span<uint8_t> orders_;  // count, value, then addresses, 32 bits each
};

}  // namespace drover

#endif  // DROVER_VMM_KVM_TESTING_WRITER_GUEST_H_
