// What a vCPU's full state costs, get plus set; and what the I/O bus adds to a bare KVM_RUN loop.
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "e2e/bench/figure.h"
#include "vmm/base/fd.h"
#include "vmm/base/mapped_region.h"
#include "vmm/base/status.h"
#include "vmm/core/io_bus.h"
#include "vmm/kvm/kvm_hypervisor.h"
#include "vmm/kvm/testing/mini_guest.h"

namespace drover {
namespace {

constexpr uint64_t kRam = 1 << 20;
constexpr uint64_t kCode = 0x1000;
constexpr uint16_t kPort = 0x90;
constexpr uint32_t kMmio = 0xD0000000;
constexpr int kStateSamples = 200;
constexpr int kExitRounds = 30;
constexpr int kExitsARound = 3000;

[[noreturn]] void Die(const absl::Status& status) {
  fprintf(stderr, "vcpu_state_bench: %s\n", status.ToString().c_str());
  exit(1);
}

void Must(const absl::Status& status) {
  if (!status.ok()) Die(status);
}
template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) Die(value.status());
  return *std::move(value);
}

struct Machine {
  std::unique_ptr<Vm> vm;
  std::vector<std::unique_ptr<Vcpu>> vcpus;
};

Machine Boot(Hypervisor& hypervisor, const MiniGuest& guest, uint32_t count) {
  Machine machine;
  machine.vm = Must(hypervisor.CreateVm(Must(GuestMemory::Create({{0, kRam}}))));
  Must(machine.vm->memory().Write(kCode, guest.code()));
  Must(machine.vm->CreateIrqchip({}));
  for (uint32_t id = 0; id < count; ++id) {
    machine.vcpus.push_back(Must(machine.vm->CreateVcpu(id, count)));
    Must(machine.vcpus[id]->SetUpForBoot({.rip = kCode, .rsp = 0x8000}));
  }
  return machine;
}

void MeasureState(Hypervisor& hypervisor, uint32_t count) {
  Machine machine = Boot(hypervisor, MiniGuest().Spin(), count);
  std::vector<double> samples;
  for (int i = 0; i < kStateSamples; ++i) {
    const int64_t begin = absl::GetCurrentTimeNanos();
    for (const auto& vcpu : machine.vcpus) Must(vcpu->RestoreState(Must(vcpu->SaveState())));
    samples.push_back(static_cast<double>(absl::GetCurrentTimeNanos() - begin) / 1000);
  }
  Print({.name = absl::StrCat("vcpu_state/get_and_set/", count, "_vcpus"),
         .value = Quantile(samples, 0.5),
         .unit = "us",
         .baseline = std::nullopt,
         .baseline_name = "",
         .goal = std::nullopt,
         .samples = samples});
}

class NullDevice : public IoDevice {
 public:
  absl::string_view name() const override { return "null"; }
  void Read(uint64_t, std::span<uint8_t>) override {}
  void Write(uint64_t, std::span<const uint8_t>) override { ++writes_; }

 private:
  uint64_t writes_ = 0;
};

int64_t Ioctl(const Fd& fd, unsigned long request, void* argument, const char* name) {
  const int result = ioctl(fd.get(), request, argument);
  if (result < 0) Die(PosixStatus(errno, name, "bare machine"));
  return result;
}

// The same machine of bare ioctls, whose loop drops each exit.
class BareMachine {
 public:
  explicit BareMachine(const MiniGuest& guest)
      : kvm_(Must(OpenFile("/dev/kvm", O_RDWR))),
        vm_(ioctl(kvm_.get(), KVM_CREATE_VM, 0)),
        ram_(Must(MappedRegion::Anonymous(kRam, PROT_READ | PROT_WRITE))) {
    memcpy(ram_.data() + kCode, guest.code().data(), guest.code().size());
    struct kvm_userspace_memory_region region = {
        .memory_size = kRam, .userspace_addr = reinterpret_cast<uintptr_t>(ram_.data())};
    Ioctl(vm_, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
    Ioctl(vm_, KVM_CREATE_IRQCHIP, nullptr, "KVM_CREATE_IRQCHIP");
    vcpu_.Reset(ioctl(vm_.get(), KVM_CREATE_VCPU, 0));
    const int64_t size = Ioctl(kvm_, KVM_GET_VCPU_MMAP_SIZE, nullptr, "KVM_GET_VCPU_MMAP_SIZE");
    run_ = Must(
        MappedRegion::MapShared(vcpu_.get(), 0, static_cast<size_t>(size), PROT_READ | PROT_WRITE));
    Start();
  }

  // Microseconds an exit over one round.
  double MicrosAnExit(uint32_t reason) {
    const auto* const run = reinterpret_cast<const struct kvm_run*>(run_.data());
    const int64_t begin = absl::GetCurrentTimeNanos();
    for (int i = 0; i < kExitsARound; ++i) {
      if (ioctl(vcpu_.get(), KVM_RUN, 0) < 0) Die(PosixStatus(errno, "KVM_RUN", "bare machine"));
      if (run->exit_reason != reason)
        Die(absl::InternalError(absl::StrCat("bare machine: exit ", run->exit_reason)));
    }
    return static_cast<double>(absl::GetCurrentTimeNanos() - begin) / 1000 / kExitsARound;
  }

 private:
  // 32-bit protected mode with flat segments, as Vcpu::SetUpForBoot leaves it.
  void Start() {
    struct kvm_sregs sregs = {};
    Ioctl(vcpu_, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
    struct kvm_segment flat = {
        .limit = 0xFFFFFFFF, .selector = 0x10, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
    flat.selector = 0x8;
    flat.type = 0xB;
    sregs.cs = flat;
    sregs.cr0 |= 1;
    Ioctl(vcpu_, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
    struct kvm_regs regs = {.rsp = 0x8000, .rip = kCode, .rflags = 2};
    Ioctl(vcpu_, KVM_SET_REGS, &regs, "KVM_SET_REGS");
  }

  const Fd kvm_, vm_;
  const MappedRegion ram_;
  Fd vcpu_;
  MappedRegion run_;
};

// Microseconds an exit over one round, each handed to its bus.
double MicrosAnExit(Vcpu& vcpu, const IoBus& ports, const IoBus& mmio) {
  const int64_t begin = absl::GetCurrentTimeNanos();
  for (int i = 0; i < kExitsARound; ++i) {
    const VcpuExit exit = Must(vcpu.Run());
    if (const auto* port = std::get_if<PortExit>(&exit)) ports.Write(port->port, port->data);
    if (const auto* access = std::get_if<MmioExit>(&exit))
      mmio.Write(access->address, access->data);
  }
  return static_cast<double>(absl::GetCurrentTimeNanos() - begin) / 1000 / kExitsARound;
}

void MeasureExits(Hypervisor& hypervisor, const char* kind, uint32_t reason,
                  const MiniGuest& guest) {
  BareMachine bare_machine(guest);
  Machine machine = Boot(hypervisor, guest, 1);
  NullDevice device;
  IoBus ports, mmio;
  // As many devices as a machine has, so that finding one costs what it does there.
  for (uint32_t i = 0; i < 16; ++i) {
    Must(ports.Add(kPort + i * 8, 8, &device));
    Must(mmio.Add(kMmio + i * 0x1000, 0x1000, &device));
  }
  std::vector<double> bare, over_bus;
  for (int round = 0; round < kExitRounds; ++round) {  // in turns: the host's mood is shared
    bare.push_back(bare_machine.MicrosAnExit(reason));
    over_bus.push_back(MicrosAnExit(*machine.vcpus[0], ports, mmio));
  }
  Print({.name = absl::StrCat("exits/", kind, "_through_the_bus"),
         .value = Quantile(over_bus, 0.5),
         .unit = "us/exit",
         .baseline = Quantile(bare, 0.5),
         .baseline_name = "KVM_RUN in a bare loop",
         .goal = 1 / 0.9,
         .goal_is_ratio = true,
         .samples = over_bus});
}

void Run() {
  const auto hypervisor = Must(KvmHypervisor::Create(Must(OpenFile("/dev/kvm", O_RDWR))));
  MeasureState(*hypervisor, 1);
  MeasureState(*hypervisor, 8);
  MeasureExits(*hypervisor, "pio", KVM_EXIT_IO, MiniGuest().OutAl(kPort).JumpBack(2));
  MeasureExits(*hypervisor, "mmio", KVM_EXIT_MMIO, MiniGuest().StoreAl(kMmio).JumpBack(5));
}

}  // namespace
}  // namespace drover

int main() {
  drover::Run();
  return 0;
}
