#ifndef DROVER_VMM_WORKER_MACHINE_BUILDER_H_
#define DROVER_VMM_WORKER_MACHINE_BUILDER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/clock.h"
#include "vmm/base/event_loop.h"
#include "vmm/boot/boot.h"
#include "vmm/core/hypervisor.h"
#include "vmm/core/vm_plan.h"
#include "vmm/worker/console.h"
#include "vmm/worker/machine_devices.h"

namespace drover {

// What the machine is to be.
struct MachineSpec {
  uint32_t vcpus = 0;
  uint64_t memory_bytes = 0;
  std::string command_line;
  VmFeatures features;
  std::vector<std::string> withheld;  // capabilities that it does without
};

// What it is made with; everything is borrowed and outlives the machine.
struct MachineEnvironment {
  EventLoop* loop = nullptr;
  Hypervisor* hypervisor = nullptr;
  Console* console = nullptr;
  const Clock* clock = nullptr;
  int kernel_fd = -1;
  int initrd_fd = -1;
  // Called once guest memory is made and before a byte of the image is read; may be empty.
  std::function<absl::Status()> on_memory = nullptr;
};

// A machine that could run: its members go in the reverse order.
struct MachineParts {
  BootImageOptions image;
  VmPlan plan;
  std::unique_ptr<GuestMemory> memory;  // until the VM has it
  std::unique_ptr<Vm> vm;
  std::unique_ptr<MachineDevices> devices;
  std::vector<std::unique_ptr<Vcpu>> vcpus;
};

// Builds it by a table of steps. A spec that the backend cannot serve is refused before anything is
// made (ResolveVm, RefusalStatus): INVALID_ARGUMENT with the field and the capability that is
// missing; a bad image likewise (vmm/boot/boot.h). Too few free 2 MiB pages are a missing
// hugetlb_2mib: 4 KiB pages instead, or RESOURCE_EXHAUSTED (HUGE_PAGES_EXHAUSTED) where they are
// required. Fallbacks are logged. On failure all that was made is released.
// `on_stop` as in MachineDevices.
absl::StatusOr<MachineParts> BuildMachine(const MachineSpec& spec,
                                          const MachineEnvironment& environment,
                                          std::function<void(MachineStop)> on_stop);

// Brings the parts, whose vCPUs are all parked, back to where BuildMachine left them.
absl::Status RebuildMachine(MachineParts& parts);

}  // namespace drover

#endif  // DROVER_VMM_WORKER_MACHINE_BUILDER_H_
