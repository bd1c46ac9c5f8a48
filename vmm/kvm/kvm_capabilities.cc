#include "vmm/kvm/kvm_capabilities.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>

#include <algorithm>

#include "vmm/base/fd.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/kvm_ioctl.h"

namespace drover {
namespace {

constexpr uint32_t kLegacyXsaveBytes = 4096;  // struct kvm_xsave
constexpr uint32_t kLegacyMemorySlots = 32;

struct Flag {
  int extension;
  bool BackendCapabilities::*field;
};
constexpr Flag kFlags[] = {
    {KVM_CAP_IRQCHIP, &BackendCapabilities::irqchip},
    {KVM_CAP_IMMEDIATE_EXIT, &BackendCapabilities::immediate_exit},
    {KVM_CAP_IRQFD, &BackendCapabilities::irqfd},
    {KVM_CAP_IRQFD_RESAMPLE, &BackendCapabilities::irqfd_resample},
    {KVM_CAP_IOEVENTFD, &BackendCapabilities::ioeventfd},
    {KVM_CAP_IOEVENTFD_ANY_LENGTH, &BackendCapabilities::ioeventfd_any_length},
    {KVM_CAP_READONLY_MEM, &BackendCapabilities::read_only_memory},
    {KVM_CAP_TSC_CONTROL, &BackendCapabilities::tsc_control},
    {KVM_CAP_X86_MSR_FILTER, &BackendCapabilities::msr_filter},
    {KVM_CAP_SPLIT_IRQCHIP, &BackendCapabilities::split_irqchip},
    {KVM_CAP_COALESCED_MMIO, &BackendCapabilities::coalesced_io},
};

struct Number {
  int extension;
  uint32_t BackendCapabilities::*field;
};
constexpr Number kNumbers[] = {
    {KVM_CAP_MAX_VCPUS, &BackendCapabilities::max_vcpus},
    {KVM_CAP_NR_VCPUS, &BackendCapabilities::recommended_vcpus},
    {KVM_CAP_NR_MEMSLOTS, &BackendCapabilities::memory_slots},
    {KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, &BackendCapabilities::manual_dirty_log_protect},
    {KVM_CAP_NESTED_STATE, &BackendCapabilities::nested_state_bytes},
    {KVM_CAP_XSAVE2, &BackendCapabilities::xsave_bytes},
};

// UFFD_FEATURE_*, 0 without userfaultfd. The userfaultfd belongs to the address space of whoever
// makes it, so each process makes its own; the system call would need a privilege, the device not.
uint64_t UserfaultfdFeatures(int device) {
  if (device < 0) return 0;
  const Fd fd(ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
  struct uffdio_api api = {.api = UFFD_API};
  if (!fd.valid() || ioctl(fd.get(), UFFDIO_API, &api) != 0) return 0;
  return api.features;
}

void ProbeUserfaultfd(int device, BackendCapabilities* out) {
  const uint64_t features = UserfaultfdFeatures(device);
  out->userfaultfd = (features & UFFD_FEATURE_MISSING_SHMEM) != 0;
  out->userfaultfd_wp_shmem = (features & UFFD_FEATURE_WP_HUGETLBFS_SHMEM) != 0;
  out->userfaultfd_minor_shmem = (features & UFFD_FEATURE_MINOR_SHMEM) != 0;
  out->userfaultfd_missing_hugetlb = (features & UFFD_FEATURE_MISSING_HUGETLBFS) != 0;
  out->userfaultfd_wp_hugetlb = (features & UFFD_FEATURE_WP_HUGETLBFS_SHMEM) != 0;
  out->userfaultfd_minor_hugetlb = (features & UFFD_FEATURE_MINOR_HUGETLBFS) != 0;
  out->postcopy_restore = out->userfaultfd;
}

// Whether the kernel knows pages of that size, not whether any is free.
bool HasHugePages() {
  return Fd(memfd_create("probe", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB)).valid();
}

}  // namespace

BackendCapabilities ProbeKvmCapabilities(int kvm_fd, int userfaultfd_device) {
  BackendCapabilities out = {.kind = BackendKind::kKvm,
                             .dirty_page_tracking = true,
                             .exposes_vcpu_exits = true,
                             .custom_mmio_devices = true};
  for (const Flag& flag : kFlags) out.*flag.field = KvmExtension(kvm_fd, flag.extension) != 0;
  for (const Number& number : kNumbers) out.*number.field = KvmExtension(kvm_fd, number.extension);
  out.max_vcpus = std::max(out.max_vcpus, out.recommended_vcpus);
  out.xsave_bytes = std::max(out.xsave_bytes, kLegacyXsaveBytes);
  if (out.memory_slots == 0) out.memory_slots = kLegacyMemorySlots;
  out.dirty_ring_bytes = std::max(KvmExtension(kvm_fd, KVM_CAP_DIRTY_LOG_RING),
                                  KvmExtension(kvm_fd, KVM_CAP_DIRTY_LOG_RING_ACQ_REL));
  out.guest_physical_bits = HostPhysicalBits();
  out.kvmclock_realtime = (KvmExtension(kvm_fd, KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_REALTIME) != 0;
  out.hugetlb_2mib = HasHugePages();
  ProbeUserfaultfd(userfaultfd_device, &out);
  return out;
}

}  // namespace drover
