#include "vmm/kvm/kvm_hypervisor.h"

#include <signal.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/core/memory_layout.h"
#include "vmm/core/vm_errors.h"
#include "vmm/kvm/kvm_capabilities.h"
#include "vmm/kvm/kvm_ioctl.h"
#include "vmm/kvm/kvm_machine.h"
#include "vmm/kvm/kvm_vcpu.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/kvm/msrs.h"

namespace drover {
namespace {

// An empty VM, with the pages that KVM needs in guest-physical space on older Intel processors.
absl::StatusOr<Fd> MakeVmFd(int kvm_fd) {
  ASSIGN_OR_RETURN(Fd vm, KvmIoctlFd(kvm_fd, KVM_CREATE_VM, 0, "KVM_CREATE_VM"));
  uint64_t identity_map = layout::kIdentityMapAddress;
  RETURN_IF_ERROR(
      KvmIoctl(vm.get(), KVM_SET_IDENTITY_MAP_ADDR, &identity_map, "KVM_SET_IDENTITY_MAP_ADDR"));
  RETURN_IF_ERROR(KvmIoctl(vm.get(), KVM_SET_TSS_ADDR, layout::kTssAddress, "KVM_SET_TSS_ADDR"));
  return vm;
}

absl::Status InstallKickHandler() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  if (sigaction(KickSignal(), &action, nullptr) != 0)
    return PosixStatus(errno, "sigaction", "of the vCPU kick");
  return absl::OkStatus();
}

absl::Status CheckApi(int kvm_fd) {
  const int version = ioctl(kvm_fd, KVM_GET_API_VERSION, 0);
  if (version < 0) return PosixStatus(errno, "KVM_GET_API_VERSION", "");
  if (version != KVM_API_VERSION) return Unsupported(absl::StrCat("KVM API version ", version));
  return absl::OkStatus();
}

}  // namespace

absl::Status KvmMachine::Apply(int vm_fd, uint32_t physical_bits, const SlotMapping& mapping) {
  RETURN_IF_ERROR(CheckPhysicalBits(mapping.range.start, mapping.range.size, physical_bits));
  uint32_t flags = 0;
  if (mapping.read_only) flags |= KVM_MEM_READONLY;
  if (mapping.log_dirty_pages) flags |= KVM_MEM_LOG_DIRTY_PAGES;
  struct kvm_userspace_memory_region region = {
      .slot = mapping.slot,
      .flags = flags,
      .guest_phys_addr = mapping.range.start,
      .memory_size = mapping.range.size,
      .userspace_addr = reinterpret_cast<uintptr_t>(mapping.host)};
  return KvmIoctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION",
                  absl::StrCat("slot ", mapping.slot));
}

absl::StatusOr<const CpuidEntries*> KvmHost::SupportedCpuid() {
  MutexLock lock(&mutex_);
  if (supported_.empty()) {
    ASSIGN_OR_RETURN(supported_, GetSupportedCpuid(fd()));
  }
  return &supported_;
}

absl::StatusOr<const std::vector<uint32_t>*> KvmHost::SaveableMsrs(int vcpu_fd) {
  MutexLock lock(&mutex_);
  if (saveable_msrs_.empty()) {
    ASSIGN_OR_RETURN(saveable_msrs_, ListSaveableMsrs(fd(), vcpu_fd));
  }
  return &saveable_msrs_;
}

absl::StatusOr<std::unique_ptr<KvmHypervisor>> KvmHypervisor::Create(Fd kvm,
                                                                     int userfaultfd_device) {
  RETURN_IF_ERROR(CheckApi(kvm.get()));
  const int run_bytes = ioctl(kvm.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_bytes < 0) return PosixStatus(errno, "KVM_GET_VCPU_MMAP_SIZE", "");
  const BackendCapabilities capabilities = ProbeKvmCapabilities(kvm.get(), userfaultfd_device);
  if (!capabilities.immediate_exit) return Unsupported("KVM_CAP_IMMEDIATE_EXIT");
  RETURN_IF_ERROR(InstallKickHandler());
  return std::unique_ptr<KvmHypervisor>(new KvmHypervisor(
      std::make_shared<KvmHost>(std::move(kvm), capabilities, static_cast<size_t>(run_bytes))));
}

KvmHypervisor::KvmHypervisor(std::shared_ptr<KvmHost> host) : host_(std::move(host)) {}

KvmHypervisor::~KvmHypervisor() = default;

const BackendCapabilities& KvmHypervisor::capabilities() const { return host_->capabilities(); }

absl::Status KvmHypervisor::Withhold(const std::vector<std::string>& names) {
  return host_->Withhold(names);
}

absl::StatusOr<SpareVm> KvmHypervisor::MakeVm(bool with_irqchip) {
  SpareVm made;
  ASSIGN_OR_RETURN(made.vm, MakeVmFd(host_->fd()));
  if (!with_irqchip) return made;
  RETURN_IF_ERROR(KvmIrqchip(made.vm.get()).Create({}));
  ASSIGN_OR_RETURN(KvmVcpuParts vcpu, MakeVcpuParts(*host_, made.vm.get(), 0));
  RETURN_IF_ERROR(PrepareVcpu(*host_, 0, 1, /*irqchip=*/true, &vcpu));
  made.first_vcpu = std::move(vcpu);
  return made;
}

absl::Status KvmHypervisor::Prewarm(bool with_irqchip) {
  RETURN_IF_ERROR(host_->SupportedCpuid());
  MutexLock lock(&mutex_);
  if (spare_ != nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(SpareVm made, MakeVm(with_irqchip));
  spare_ = std::make_unique<SpareVm>(std::move(made));
  return absl::OkStatus();
}

absl::StatusOr<SpareVm> KvmHypervisor::TakeVm() {
  {
    MutexLock lock(&mutex_);
    if (spare_ != nullptr) return std::move(*std::exchange(spare_, nullptr));
  }
  return MakeVm(/*with_irqchip=*/false);
}

absl::StatusOr<std::unique_ptr<Vm>> KvmHypervisor::CreateVm(std::unique_ptr<GuestMemory> memory) {
  if (memory == nullptr) return Malformed("a VM without memory");
  ASSIGN_OR_RETURN(SpareVm vm, TakeVm());
  auto machine = std::make_shared<KvmMachine>(host_, std::move(vm), std::move(memory));
  RETURN_IF_ERROR(machine->slots.MapInitialMemory());
  return std::make_unique<KvmVm>(std::move(machine));
}

}  // namespace drover
