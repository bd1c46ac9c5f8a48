#include "e2e/guest/copy_machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "e2e/guest/bare_pvh.h"

namespace drover {
namespace {

constexpr size_t kMemorySize = 32 << 20;
constexpr uint64_t kTssAddress = 0xfffbd000;
constexpr uint16_t kUartBase = 0x3f8;
constexpr unsigned kCpuidEntries = 256;
constexpr int kSliceMicroseconds = 2000;

// A tick every 2 ms takes the vCPU out of KVM_RUN; one that comes too early is followed by another.
class SliceTimer {
 public:
  SliceTimer() {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    sigaction(SIGALRM, &action, nullptr);
    Set(kSliceMicroseconds);
  }
  ~SliceTimer() { Set(0); }

 private:
  void Set(int microseconds) {
    const itimerval timer = {{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &timer, nullptr);
  }
};

kvm_segment Flat(uint16_t selector, uint8_t type) {
  kvm_segment s = {};
  s.limit = 0xffffffff;
  s.selector = selector;
  s.type = type;
  s.present = s.db = s.s = s.g = 1;
  return s;
}

}  // namespace

CopyMachine::CopyMachine(const std::string& kernel, const std::string& command_line, bool with_svm)
    : uart_([this](char c) { console_ += c; }, [](bool) {}) {
  CreateVm();
  CreateVcpu(with_svm);
  if (!kernel.empty() && error_.empty()) Boot(kernel, command_line);
}

CopyMachine::~CopyMachine() {
  if (run_) munmap(run_, run_size_);
  for (int fd : {vcpu_, vm_, kvm_}) {
    if (fd >= 0) close(fd);
  }
  if (memory_) munmap(memory_, kMemorySize);
}

void CopyMachine::Fail(const std::string& what) {
  if (error_.empty()) error_ = what;
}

int CopyMachine::Check(int result, const char* what) {
  if (result < 0) Fail(std::string(what) + ": " + strerror(errno));
  return result;
}

void CopyMachine::CreateVm() {
  kvm_ = Check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
  vm_ = Check(ioctl(kvm_, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  nested_size_ = ioctl(kvm_, KVM_CHECK_EXTENSION, KVM_CAP_NESTED_STATE);
  msrs_ = ListedMsrs(kvm_);
  memory_ = static_cast<uint8_t*>(
      mmap(nullptr, kMemorySize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  kvm_userspace_memory_region region = {};
  region.memory_size = kMemorySize;
  region.userspace_addr = reinterpret_cast<uint64_t>(memory_);
  Check(ioctl(vm_, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
  Check(ioctl(vm_, KVM_SET_TSS_ADDR, kTssAddress), "KVM_SET_TSS_ADDR");
  Check(ioctl(vm_, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
}

void CopyMachine::CreateVcpu(bool with_svm) {
  std::vector<uint64_t> buffer(1 + kCpuidEntries * sizeof(kvm_cpuid_entry2) / 8);
  auto* cpuid = reinterpret_cast<kvm_cpuid2*>(buffer.data());
  cpuid->nent = kCpuidEntries;
  Check(ioctl(kvm_, KVM_GET_SUPPORTED_CPUID, cpuid), "KVM_GET_SUPPORTED_CPUID");
  for (unsigned i = 0; i < cpuid->nent && !with_svm; i++) {
    if (cpuid->entries[i].function == 0x80000001) cpuid->entries[i].ecx &= ~(1u << 2);
  }
  vcpu_ = Check(ioctl(vm_, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
  Check(ioctl(vcpu_, KVM_SET_CPUID2, cpuid), "KVM_SET_CPUID2");
  run_size_ = Check(ioctl(kvm_, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
  run_ =
      static_cast<kvm_run*>(mmap(nullptr, run_size_, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_, 0));
}

void CopyMachine::Boot(const std::string& kernel, const std::string& command_line) {
  PvhBoot boot;
  std::string error;
  if (!LoadPvh(kernel, command_line, memory_, kMemorySize, &boot, &error)) return Fail(error);
  kvm_sregs sregs;
  Check(ioctl(vcpu_, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.cs = Flat(0x08, 0xb);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = Flat(0x10, 0x3);
  sregs.cr0 |= 1;
  Check(ioctl(vcpu_, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  kvm_regs regs = {};
  regs.rip = boot.entry;
  regs.rbx = boot.start_info;
  regs.rflags = 2;
  Check(ioctl(vcpu_, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

bool CopyMachine::Run(const std::function<bool()>& done, int seconds) {
  const SliceTimer timer;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (error_.empty()) {
    if (ioctl(vcpu_, KVM_RUN, 0) == 0) {
      HandleExit();
    } else if (errno != EINTR && errno != EAGAIN) {
      Fail(std::string("KVM_RUN: ") + strerror(errno));
    } else if (done()) {
      return true;
    } else if (std::chrono::steady_clock::now() > end) {
      return false;
    }
  }
  return false;
}

std::string CopyMachine::RunUntil(const std::string& text) {
  if (!Run([&] { return HasLine(text); })) return "";
  const size_t at = console_.find(text);
  const size_t line_end = console_.find('\n', at);
  const std::string line = console_.substr(at, line_end - at);
  console_.erase(0, line_end + 1);
  return line;
}

std::string CopyMachine::Ask(const std::string& command) {
  const std::string line = command + "\n";
  uart_.Feed(line.data(), line.size());
  const std::string answer = " " + command.substr(0, command.find(' ')) + " ";
  if (!Run([&] { return HasLine(answer) || HasLine("fault vector"); }, 30)) return "";
  return std::exchange(console_, "");
}

bool CopyMachine::HasLine(const std::string& text) const {
  const size_t at = console_.find(text);
  return at != std::string::npos && console_.find('\n', at) != std::string::npos;
}

VcpuCopy CopyMachine::Copy() {
  VcpuCopy copy;
  const std::string error = GetVcpu(vcpu_, msrs_, &copy);
  if (!error.empty()) Fail(error);
  return copy;
}

std::string CopyMachine::Take(const CopyMachine& from, const std::vector<VcpuPart>& order,
                              const VcpuCopy& copy) {
  memcpy(memory_, from.memory_, kMemorySize);
  for (unsigned i = 0; i < 3; i++) {
    kvm_irqchip chip = {};
    chip.chip_id = i;
    if (ioctl(from.vm_, KVM_GET_IRQCHIP, &chip) < 0 || ioctl(vm_, KVM_SET_IRQCHIP, &chip) < 0) {
      return "KVM_SET_IRQCHIP";
    }
  }
  return SetVcpu(vcpu_, order, copy);
}

void CopyMachine::HandleExit() {
  if (run_->exit_reason == KVM_EXIT_IO) return HandlePort();
  if (run_->exit_reason != KVM_EXIT_MMIO) {
    return Fail("exit reason " + std::to_string(run_->exit_reason) + ", suberror " +
                std::to_string(run_->internal.suberror));
  }
  if (!run_->mmio.is_write) memset(run_->mmio.data, 0xff, sizeof(run_->mmio.data));
}

void CopyMachine::HandlePort() {
  auto* data = reinterpret_cast<uint8_t*>(run_) + run_->io.data_offset;
  const bool uart = run_->io.port >= kUartBase && run_->io.port < kUartBase + 8;
  const uint16_t offset = run_->io.port - kUartBase;
  if (run_->io.direction == KVM_EXIT_IO_IN) {
    memset(data, 0xff, run_->io.size * run_->io.count);
    if (uart) *data = uart_.Read(offset);
  } else if (uart) {
    uart_.Write(offset, *data);
  }
}

}  // namespace drover
