// What a vCPU's full state costs, get plus set; and what the I/O bus adds to a bare KVM_RUN loop.
#include <fcntl.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "e2e/bench/figure.h"
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

// Microseconds an exit over one round, with the exit handed to the buses or dropped.
double MicrosAnExit(Vcpu& vcpu, const IoBus* ports, const IoBus* mmio) {
  const int64_t begin = absl::GetCurrentTimeNanos();
  for (int i = 0; i < kExitsARound; ++i) {
    const VcpuExit exit = Must(vcpu.Run());
    if (ports == nullptr) continue;
    if (const auto* port = std::get_if<PortExit>(&exit)) ports->Write(port->port, port->data);
    if (const auto* access = std::get_if<MmioExit>(&exit))
      mmio->Write(access->address, access->data);
  }
  return static_cast<double>(absl::GetCurrentTimeNanos() - begin) / 1000 / kExitsARound;
}

void MeasureExits(Hypervisor& hypervisor, const char* kind, const MiniGuest& guest) {
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
    bare.push_back(MicrosAnExit(*machine.vcpus[0], nullptr, nullptr));
    over_bus.push_back(MicrosAnExit(*machine.vcpus[0], &ports, &mmio));
  }
  Print({.name = absl::StrCat("exits/", kind, "_through_the_bus"),
         .value = Quantile(over_bus, 0.5),
         .unit = "us/exit",
         .baseline = Quantile(bare, 0.5),
         .baseline_name = "Vcpu::Run in a loop, exits dropped",
         .goal = 1 / 0.9,
         .goal_is_ratio = true,
         .samples = over_bus});
}

void Run() {
  const auto hypervisor = Must(KvmHypervisor::Create(Must(OpenFile("/dev/kvm", O_RDWR))));
  MeasureState(*hypervisor, 1);
  MeasureState(*hypervisor, 8);
  MeasureExits(*hypervisor, "pio", MiniGuest().OutAl(kPort).JumpBack(2));
  MeasureExits(*hypervisor, "mmio", MiniGuest().StoreAl(kMmio).JumpBack(5));
}

}  // namespace
}  // namespace drover

int main() {
  drover::Run();
  return 0;
}
