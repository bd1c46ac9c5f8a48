#include "vmm/kvm/dirty_rings.h"

#include <sys/mman.h>

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/kvm/kvm_ioctl.h"

namespace drover {
namespace {

constexpr uint32_t kSlotMask = 0xFFFF;  // above: the address space, of which only 0 has memory

static_assert(sizeof(struct kvm_dirty_gfn) == 16);

}  // namespace

absl::Status DirtyRings::TurnOn(int vm_fd, uint32_t bytes) {
  MutexLock lock(&mutex_);
  const bool ordered = KvmExtension(vm_fd, KVM_CAP_DIRTY_LOG_RING_ACQ_REL) != 0;
  struct kvm_enable_cap cap = {.cap = static_cast<uint32_t>(ordered ? KVM_CAP_DIRTY_LOG_RING_ACQ_REL
                                                                    : KVM_CAP_DIRTY_LOG_RING),
                               .args = {bytes}};
  RETURN_IF_ERROR(KvmIoctl(vm_fd, KVM_ENABLE_CAP, &cap, "KVM_ENABLE_CAP",
                           absl::StrCat("dirty ring of ", bytes, " bytes")));
  pages_ = bytes / sizeof(struct kvm_dirty_gfn);
  return absl::OkStatus();
}

uint32_t DirtyRings::pages() const {
  MutexLock lock(&mutex_);
  return pages_;
}

bool DirtyRings::has_vcpus() const {
  MutexLock lock(&mutex_);
  return has_vcpus_;
}

absl::Status DirtyRings::AddVcpu(int vcpu_fd) {
  MutexLock lock(&mutex_);
  has_vcpus_ = true;
  if (pages_ == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(
      MappedRegion entries,
      MappedRegion::MapShared(vcpu_fd, KVM_DIRTY_LOG_PAGE_OFFSET * PageSize(),
                              pages_ * sizeof(struct kvm_dirty_gfn), PROT_READ | PROT_WRITE));
  rings_.push_back({std::move(entries)});
  return absl::OkStatus();
}

uint32_t DirtyRings::DrainOne(Ring* ring,
                              absl::FunctionRef<void(uint32_t slot, uint64_t page)> take) {
  auto* const entries = reinterpret_cast<struct kvm_dirty_gfn*>(ring->entries.data());
  uint32_t taken = 0;
  for (; taken < pages_; ++taken) {
    struct kvm_dirty_gfn& entry = entries[ring->next % pages_];
    const std::atomic_ref<uint32_t> flags(entry.flags);
    // The flag is the last that KVM writes of an entry, and the last that it lets us write.
    if (flags.load(std::memory_order_acquire) != KVM_DIRTY_GFN_F_DIRTY) break;
    take(entry.slot & kSlotMask, entry.offset);
    flags.store(KVM_DIRTY_GFN_F_RESET, std::memory_order_release);
    ++ring->next;
  }
  return taken;
}

absl::Status DirtyRings::Drain(int vm_fd,
                               absl::FunctionRef<void(uint32_t slot, uint64_t page)> take) {
  MutexLock lock(&mutex_);
  for (Ring& ring : rings_)
    if (DrainOne(&ring, take) != 0) to_reset_ = true;
  if (!to_reset_) return absl::OkStatus();
  RETURN_IF_ERROR(KvmIoctl(vm_fd, KVM_RESET_DIRTY_RINGS, 0, "KVM_RESET_DIRTY_RINGS"));
  to_reset_ = false;
  return absl::OkStatus();
}

}  // namespace drover
