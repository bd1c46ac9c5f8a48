#include "e2e/guest/bare_machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace drover {
namespace {

constexpr uint16_t kUartBase = 0x3f8;
constexpr uint16_t kKeyboardCommand = 0x64;
constexpr uint8_t kKeyboardReset = 0xfe;
constexpr uint16_t kPowerOffPort =
    0x604;  // QEMU's PM1a_CNT: the guest tries it without ACPI tables
constexpr uint32_t kPowerOffValue = 0x2000;
constexpr uint32_t kUartGsi = 4;
constexpr uint64_t kTssAddress = 0xfffbd000;
constexpr uint32_t kMaxCpuidEntries = 256;

[[noreturn]] void Die(const std::string& what) {
  fprintf(stderr, "bare_kvm: %s\n", what.c_str());
  _exit(static_cast<int>(BareExit::kFailed));
}

int Check(int result, const char* what) {
  if (result < 0) Die(std::string(what) + ": " + strerror(errno));
  return result;
}

void* Map(size_t size, int fd, int flags, const char* what) {
  void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (p == MAP_FAILED) Die(std::string(what) + ": " + strerror(errno));
  return p;
}

std::unique_ptr<kvm_cpuid2, void (*)(void*)> SupportedCpuid(int kvm) {
  auto* cpuid = static_cast<kvm_cpuid2*>(
      calloc(1, sizeof(kvm_cpuid2) + kMaxCpuidEntries * sizeof(kvm_cpuid_entry2)));
  cpuid->nent = kMaxCpuidEntries;
  Check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid), "KVM_GET_SUPPORTED_CPUID");
  return {cpuid, free};
}

void SetApicId(kvm_cpuid2* cpuid, unsigned id) {
  for (unsigned i = 0; i < cpuid->nent; i++) {
    kvm_cpuid_entry2& entry = cpuid->entries[i];
    if (entry.function == 1) entry.ebx = (entry.ebx & 0xffffff) | id << 24;
    if (entry.function == 0xb || entry.function == 0x1f) entry.edx = id;
  }
}

kvm_segment FlatSegment(uint16_t selector, uint8_t type) {
  kvm_segment s = {};
  s.limit = 0xffffffff;
  s.selector = selector;
  s.type = type;
  s.present = s.db = s.s = s.g = 1;
  return s;
}

}  // namespace

// Memory slots before the irqchip: the first slot change after it waits for a grace period of some
// ms.
BareMachine::BareMachine(const BareOptions& options, BareUart::Output output, OnExit on_exit)
    : options_(options),
      on_exit_(std::move(on_exit)),
      uart_(std::move(output), [this](bool level) { SetIrq(level); }),
      cpuid_(nullptr, free) {
  kvm_ = Check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
  vm_ = Check(ioctl(kvm_, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  CreateMemory();
  if (options_.irqchip) CreateInterruptController();
  cpuid_ = SupportedCpuid(kvm_);
  const int run_size = Check(ioctl(kvm_, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
  for (unsigned i = 0; i < options_.cpus; i++) CreateVcpu(i, run_size);
  SetBootRegisters();
}

void BareMachine::CreateMemory() {
  memory_ = static_cast<uint8_t*>(
      Map(options_.memory_size, -1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, "guest memory"));
  std::string error;
  if (!LoadPvh(options_.kernel, options_.command_line, memory_, options_.memory_size, &boot_,
               &error)) {
    Die(error);
  }
  kvm_userspace_memory_region region = {};
  region.memory_size = options_.memory_size;
  region.userspace_addr = reinterpret_cast<uint64_t>(memory_);
  Check(ioctl(vm_, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}

void BareMachine::CreateInterruptController() {
  Check(ioctl(vm_, KVM_SET_TSS_ADDR, kTssAddress), "KVM_SET_TSS_ADDR");
  Check(ioctl(vm_, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
  kvm_pit_config pit = {};
  pit.flags = KVM_PIT_SPEAKER_DUMMY;
  Check(ioctl(vm_, KVM_CREATE_PIT2, &pit), "KVM_CREATE_PIT2");
}

void BareMachine::CreateVcpu(unsigned index, int run_size) {
  const int fd = Check(ioctl(vm_, KVM_CREATE_VCPU, index), "KVM_CREATE_VCPU");
  SetApicId(cpuid_.get(), index);
  Check(ioctl(fd, KVM_SET_CPUID2, cpuid_.get()), "KVM_SET_CPUID2");
  vcpus_.push_back({fd, static_cast<kvm_run*>(Map(run_size, fd, MAP_SHARED, "kvm_run"))});
}

// The state that PVH asks for: protected mode with flat segments, paging off, %ebx = start info.
void BareMachine::SetBootRegisters() {
  kvm_sregs sregs;
  Check(ioctl(vcpus_[0].fd, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.cs = FlatSegment(0x08, 0xb);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = FlatSegment(0x10, 0x3);
  sregs.tr = FlatSegment(0x18, 0xb);
  sregs.tr.limit = 0x67;
  sregs.tr.s = sregs.tr.db = sregs.tr.g = 0;
  sregs.cr0 |= 1;
  Check(ioctl(vcpus_[0].fd, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  kvm_regs regs = {};
  regs.rip = boot_.entry;
  regs.rbx = boot_.start_info;
  regs.rflags = 2;
  Check(ioctl(vcpus_[0].fd, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

void BareMachine::SetIrq(bool level) {
  if (!options_.irqchip) return;
  kvm_irq_level irq = {};
  irq.irq = kUartGsi;
  irq.level = level;
  Check(ioctl(vm_, KVM_IRQ_LINE, &irq), "KVM_IRQ_LINE");
}

void BareMachine::RunVcpu(unsigned index) {
  Vcpu& vcpu = vcpus_[index];
  for (;;) {
    const int result = ioctl(vcpu.fd, KVM_RUN, 0);
    if (result < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    Check(result, "KVM_RUN");
    if (!HandleExit(vcpu)) return;
  }
}

bool BareMachine::HandleExit(Vcpu& vcpu) {
  kvm_run& run = *vcpu.run;
  switch (run.exit_reason) {
    case KVM_EXIT_IO:
      return HandlePort(run);
    case KVM_EXIT_MMIO:
      if (!run.mmio.is_write) memset(run.mmio.data, 0xff, sizeof(run.mmio.data));
      return true;
    case KVM_EXIT_HLT:
      return End(BareExit::kHalt);
    case KVM_EXIT_SHUTDOWN:
      return End(BareExit::kTripleFault);
    default:
      kvm_regs regs = {};
      ioctl(vcpu.fd, KVM_GET_REGS, &regs);
      fprintf(stderr, "bare_kvm: exit reason %u, suberror %u, rip 0x%llx\n", run.exit_reason,
              run.internal.suberror, regs.rip);
      return End(BareExit::kFailed);
  }
}

bool BareMachine::HandlePort(kvm_run& run) {
  auto* data = reinterpret_cast<uint8_t*>(&run) + run.io.data_offset;
  const bool uart = run.io.port >= kUartBase && run.io.port < kUartBase + 8;
  for (uint32_t i = 0; i < run.io.count; i++, data += run.io.size) {
    if (run.io.direction == KVM_EXIT_IO_IN) {
      memset(data, 0xff, run.io.size);
      if (uart) *data = uart_.Read(run.io.port - kUartBase);
      continue;
    }
    uint32_t value = 0;
    memcpy(&value, data, run.io.size);
    if (!WritePort(run.io.port, value)) return false;
  }
  return true;
}

bool BareMachine::WritePort(uint16_t port, uint32_t value) {
  if (port >= kUartBase && port < kUartBase + 8) uart_.Write(port - kUartBase, value);
  if (port == kKeyboardCommand && value == kKeyboardReset) return End(BareExit::kReset);
  if (port == kPowerOffPort && value == kPowerOffValue) return End(BareExit::kPowerOff);
  return true;
}

bool BareMachine::End(BareExit exit) {
  on_exit_(exit);
  return false;
}

}  // namespace drover
