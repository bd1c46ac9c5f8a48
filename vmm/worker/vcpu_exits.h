#ifndef DROVER_VMM_WORKER_VCPU_EXITS_H_
#define DROVER_VMM_WORKER_VCPU_EXITS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "vmm/core/io_bus.h"
#include "vmm/core/vcpu.h"

namespace drover {

// Why the machine's vCPUs cannot simply run on.
struct MachineStop {
  enum class Kind {
    kShutdown,  // the guest powered off
    kReset,     // the guest asked for a reset
    kFailed,
  };
  Kind kind = Kind::kFailed;
  std::string reason;                     // UPPER_SNAKE_CASE
  std::string message;                    // for a person
  std::vector<uint8_t> instruction = {};  // that could not be emulated, where known
};

// Handles what a vCPU left the guest for; nullopt: run it again.
std::optional<MachineStop> HandleExit(VcpuExit& exit, const IoBus& ports, const IoBus& mmio);

// What Run's error means; nullopt: run it again (EINTR, EAGAIN).
std::optional<MachineStop> HandleRunError(const absl::Status& status);

}  // namespace drover

#endif  // DROVER_VMM_WORKER_VCPU_EXITS_H_
