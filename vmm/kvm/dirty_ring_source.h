#ifndef DROVER_VMM_KVM_DIRTY_RING_SOURCE_H_
#define DROVER_VMM_KVM_DIRTY_RING_SOURCE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "vmm/core/dirty_source.h"
#include "vmm/kvm/kvm_machine.h"

namespace drover {

// KVM's dirty rings. Threads as DirtySource.
class DirtyRingSource : public DirtySource {
 public:
  // `choice` is a ring, and the machine's rings are on; its slots are open to it.
  DirtyRingSource(std::shared_ptr<KvmMachine> machine, const DirtyLogChoice& choice);
  ~DirtyRingSource() override;

  const DirtyLogChoice& choice() const override { return choice_; }
  MemorySlots& slots() override { return machine_->slots; }
  absl::Status Prepare(DirtyStart start) override;
  absl::Status Harvest(std::span<const Slot> slots, DirtyClear clear) override;
  absl::Status Rearm(const SlotMapping& slot, uint64_t first_word,
                     std::span<const uint64_t> words) override;

 private:
  const std::shared_ptr<KvmMachine> machine_;
  const DirtyLogChoice choice_;
};

// The source that `options`, the host and the machine's state lead to (Vm::OpenDirtySource).
absl::StatusOr<std::unique_ptr<DirtySource>> OpenKvmDirtySource(std::shared_ptr<KvmMachine> machine,
                                                                const DirtySourceOptions& options);

}  // namespace drover

#endif  // DROVER_VMM_KVM_DIRTY_RING_SOURCE_H_
