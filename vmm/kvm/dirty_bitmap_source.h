#ifndef DROVER_VMM_KVM_DIRTY_BITMAP_SOURCE_H_
#define DROVER_VMM_KVM_DIRTY_BITMAP_SOURCE_H_

#include <memory>

#include "vmm/core/dirty_source.h"
#include "vmm/kvm/kvm_machine.h"

namespace drover {

// KVM's dirty bitmaps (KVM api.rst KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG). Threads as DirtySource.
class DirtyBitmapSource : public DirtySource {
 public:
  // `choice` is a bitmap; the machine's slots are open to it. Without manual protect where the host
  // refuses that.
  DirtyBitmapSource(std::shared_ptr<KvmMachine> machine, const DirtyLogChoice& choice);
  ~DirtyBitmapSource() override;

  const DirtyLogChoice& choice() const override { return choice_; }
  MemorySlots& slots() override { return machine_->slots; }
  absl::Status Prepare(DirtyStart start) override;
  absl::Status Harvest(std::span<const Slot> slots, DirtyClear clear) override;
  absl::Status Rearm(const SlotMapping& slot, uint64_t first_word,
                     std::span<const uint64_t> words) override;

 private:
  absl::Status SetManualProtect(uint64_t flags);
  absl::Status HarvestOne(const Slot& slot, DirtyClear clear);
  // KVM_CLEAR_DIRTY_LOG in pieces, so that no vCPU waits long for KVM's lock; pieces without a page
  // are left out.
  absl::Status Clear(const SlotMapping& slot, uint64_t first_word, std::span<const uint64_t> words);

  const std::shared_ptr<KvmMachine> machine_;
  DirtyLogChoice choice_;
  PageWords scratch_;
};

}  // namespace drover

#endif  // DROVER_VMM_KVM_DIRTY_BITMAP_SOURCE_H_
