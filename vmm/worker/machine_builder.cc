#include "vmm/worker/machine_builder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"
#include "vmm/core/memory_layout.h"

namespace drover {
namespace {

// One byte of APIC id, without the I/O APIC's and the broadcast.
constexpr uint32_t kMaxVcpus = 254;

struct Build {
  const MachineSpec& spec;
  const MachineEnvironment& environment;
  std::function<void(MachineStop)> on_stop;
  std::vector<GuestRange> ranges;
  BootRegisters boot;
  MachineParts parts;
};

absl::Status CheckVcpus(Build& build) {
  const BackendCapabilities& capabilities = build.environment.hypervisor->capabilities();
  const uint32_t most = std::min(capabilities.max_vcpus, kMaxVcpus);
  if (build.spec.vcpus >= 1 && build.spec.vcpus <= most) return absl::OkStatus();
  const std::string limit = capabilities.max_vcpus < kMaxVcpus
                                ? absl::StrCat("the host's capability max_vcpus is ", most)
                                : absl::StrCat("a machine has at most ", most);
  return WithField(
      WithReason(absl::InvalidArgumentError(absl::StrCat(
                     build.spec.vcpus, " vCPUs asked for: use 1 to ", most, "; ", limit)),
                 "VCPUS_UNSUPPORTED"),
      "vm.spec.vcpus");
}

absl::Status CheckMemory(Build& build) {
  const uint32_t bits = build.environment.hypervisor->capabilities().guest_physical_bits;
  const uint64_t limit = bits == 0 || bits >= 52 ? uint64_t{1} << 52 : uint64_t{1} << bits;
  absl::StatusOr<std::vector<GuestRange>> ranges =
      layout::RamRanges(build.spec.memory_bytes, limit);
  if (!ranges.ok())
    return WithField(WithReason(Annotate(ranges.status(), absl::StrCat("with the host's capability "
                                                                       "guest_physical_bits ",
                                                                       bits)),
                                "MEMORY_UNSUPPORTED"),
                     "vm.spec.memory_mib");
  build.ranges = *std::move(ranges);
  return absl::OkStatus();
}

absl::Status MakeMemory(Build& build) {
  absl::StatusOr<std::unique_ptr<GuestMemory>> memory = GuestMemory::Create(build.ranges);
  if (!memory.ok()) return WithField(memory.status(), "vm.spec.memory_mib");
  build.parts.memory = *std::move(memory);
  return build.environment.on_memory ? build.environment.on_memory() : absl::OkStatus();
}

// Before the VM, so that a bad image costs no VM.
absl::Status LoadImage(Build& build) {
  build.parts.image = {.kernel_fd = build.environment.kernel_fd,
                       .initrd_fd = build.environment.initrd_fd,
                       .command_line = build.spec.command_line,
                       .vcpus = build.spec.vcpus};
  ASSIGN_OR_RETURN(build.boot, LoadBootImage(build.parts.image, *build.parts.memory));
  return absl::OkStatus();
}

// The memory slots come with the VM, so before the interrupt controller (KVM: the other order waits
// milliseconds for a grace period).
absl::Status MakeVm(Build& build) {
  ASSIGN_OR_RETURN(build.parts.vm,
                   build.environment.hypervisor->CreateVm(std::move(build.parts.memory)));
  return absl::OkStatus();
}

absl::Status MakeIrqchip(Build& build) { return build.parts.vm->CreateIrqchip({}); }

absl::Status MakeDevices(Build& build) {
  ASSIGN_OR_RETURN(build.parts.devices,
                   MachineDevices::Create({.loop = build.environment.loop,
                                           .vm = build.parts.vm.get(),
                                           .console = build.environment.console,
                                           .clock = build.environment.clock,
                                           .on_stop = build.on_stop}));
  return absl::OkStatus();
}

absl::Status MakeVcpus(Build& build) {
  build.parts.vcpus.reserve(build.spec.vcpus);
  for (uint32_t id = 0; id < build.spec.vcpus; ++id) {
    ASSIGN_OR_RETURN(std::unique_ptr<Vcpu> vcpu, build.parts.vm->CreateVcpu(id, build.spec.vcpus));
    build.parts.vcpus.push_back(std::move(vcpu));
  }
  return absl::OkStatus();
}

absl::Status SetUpVcpus(Build& build) {
  for (const auto& vcpu : build.parts.vcpus) RETURN_IF_ERROR(vcpu->SetUpForBoot(build.boot));
  return absl::OkStatus();
}

struct Step {
  const char* name;
  absl::Status (*run)(Build& build);
};
constexpr Step kSteps[] = {
    {"vcpus", CheckVcpus},     {"memory", CheckMemory}, {"guest memory", MakeMemory},
    {"boot image", LoadImage}, {"VM", MakeVm},          {"interrupt controller", MakeIrqchip},
    {"devices", MakeDevices},  {"vCPUs", MakeVcpus},    {"vCPU state", SetUpVcpus},
};

}  // namespace

absl::StatusOr<MachineParts> BuildMachine(const MachineSpec& spec,
                                          const MachineEnvironment& environment,
                                          std::function<void(MachineStop)> on_stop) {
  Build build{spec, environment, std::move(on_stop), {}, {}, {}};
  for (const Step& step : kSteps)
    if (absl::Status status = step.run(build); !status.ok()) return Annotate(status, step.name);
  return std::move(build.parts);
}

absl::Status RebuildMachine(MachineParts& parts) {
  RETURN_IF_ERROR(parts.vm->memory().Clear());
  parts.devices->Reset();
  RETURN_IF_ERROR(parts.vm->ResetIrqchip());
  ASSIGN_OR_RETURN(const BootRegisters boot, LoadBootImage(parts.image, parts.vm->memory()));
  for (const auto& vcpu : parts.vcpus) RETURN_IF_ERROR(vcpu->SetUpForBoot(boot));
  return absl::OkStatus();
}

}  // namespace drover
