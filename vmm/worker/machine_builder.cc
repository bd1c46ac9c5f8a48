#include "vmm/worker/machine_builder.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr char kPagesCapability[] = "hugetlb_2mib";

struct Build {
  const MachineSpec& spec;
  const MachineEnvironment& environment;
  std::function<void(MachineStop)> on_stop;
  std::vector<GuestRange> ranges;
  BootRegisters boot;
  MachineParts parts;
};

absl::Status WithholdCapabilities(Build& build) {
  return WithReason(build.environment.hypervisor->Withhold(build.spec.withheld),
                    "CAPABILITY_UNKNOWN");
}

absl::Status Plan(Build& build, const BackendCapabilities& host) {
  VmResolution resolution = ResolveVm({.vcpus = build.spec.vcpus,
                                       .memory_bytes = build.spec.memory_bytes,
                                       .features = build.spec.features,
                                       .needs = {}},
                                      host);
  RETURN_IF_ERROR(RefusalStatus(resolution.refusals));
  build.parts.plan = std::move(resolution.plan);
  build.ranges = std::move(resolution.ram);
  return absl::OkStatus();
}

absl::Status CheckCapabilities(Build& build) {
  return Plan(build, build.environment.hypervisor->capabilities());
}

// A host whose huge pages are not free, as `why` says, is one without them.
absl::Status PlanWithoutHugePages(Build& build, const absl::Status& why) {
  const std::string reason =
      absl::StrCat("the host has too few free 2 MiB pages: ", std::string(why.message()));
  if (build.spec.features.memory_pages.required)
    return WithCapability(WithReason(absl::ResourceExhaustedError(absl::StrCat(
                                         NameOf(MemoryPages::k2M), ": required, and ", reason)),
                                     "HUGE_PAGES_EXHAUSTED"),
                          kPagesCapability);
  BackendCapabilities host = build.environment.hypervisor->capabilities();
  host.hugetlb_2mib = false;
  RETURN_IF_ERROR(Plan(build, host));
  for (Fallback& fallback : build.parts.plan.fallbacks)
    if (fallback.capability == kPagesCapability) fallback.reason = reason;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<GuestMemory>> AllocateMemory(Build& build) {
  if (build.parts.plan.memory_pages == MemoryPages::k2M) {
    auto memory = GuestMemory::Create(build.ranges, MemoryBacking::kHugePages);
    if (memory.ok()) return memory;
    const absl::Status planned = PlanWithoutHugePages(build, memory.status());
    if (!planned.ok()) return WithField(planned, "vm.spec.memory_pages.size");
  }
  return GuestMemory::Create(build.ranges);
}

absl::Status MakeMemory(Build& build) {
  absl::StatusOr<std::unique_ptr<GuestMemory>> memory = AllocateMemory(build);
  if (!memory.ok()) return WithField(memory.status(), "vm.spec.memory_mib");
  build.parts.memory = *std::move(memory);
  return build.environment.on_memory ? build.environment.on_memory() : absl::OkStatus();
}

absl::Status LogFallbacks(Build& build) {
  for (const Fallback& fallback : build.parts.plan.fallbacks)
    Log(LogLevel::kWarning, "the host cannot serve a preference",
        {{"field", fallback.field},
         {"wanted", fallback.wanted},
         {"taken", fallback.taken},
         {"capability", fallback.capability},
         {"reason", fallback.reason}});
  return absl::OkStatus();
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
    {"profile", WithholdCapabilities},
    {"capabilities", CheckCapabilities},
    {"guest memory", MakeMemory},
    {"fallbacks", LogFallbacks},
    {"boot image", LoadImage},
    {"VM", MakeVm},
    {"interrupt controller", MakeIrqchip},
    {"devices", MakeDevices},
    {"vCPUs", MakeVcpus},
    {"vCPU state", SetUpVcpus},
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
