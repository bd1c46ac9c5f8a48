// A one-vCPU machine for the test guest on the Vm and Vcpu interfaces, which can be looked at,
// saved and moved between two instructions.
#ifndef E2E_KVM_STATE_MACHINE_H_
#define E2E_KVM_STATE_MACHINE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "e2e/guest/bare_uart.h"
#include "vmm/core/hypervisor.h"

namespace drover {

// Thread-compatible. The guest runs on the calling thread, within Run and Ask.
class StateMachine {
 public:
  static constexpr size_t kMemoryBytes = 64 << 20;

  // Without a kernel the vCPU is not set up: to be filled by Take.
  static absl::StatusOr<std::unique_ptr<StateMachine>> Create(Hypervisor& hypervisor,
                                                              const std::string& kernel,
                                                              const std::string& command_line);

  // Runs until `done`, which is asked every few milliseconds while no exit is half served.
  // DEADLINE_EXCEEDED after a minute; an error when the guest ended.
  absl::Status Run(const std::function<bool()>& done);
  // Runs until the console has a whole line with `text`, which is returned and forgotten with all
  // before it.
  absl::StatusOr<std::string> RunUntil(const std::string& text);
  // The line that answers the command: it begins with "ok VERB" or "error VERB".
  absl::StatusOr<std::string> Ask(const std::string& command);

  // Memory, clock, vCPU `state` and interrupt controllers of `from`.
  absl::Status Take(StateMachine& from, const VcpuState& state);

  Vcpu& vcpu() { return *vcpu_; }
  Vm& vm() { return *vm_; }

 private:
  explicit StateMachine(std::unique_ptr<Vm> vm);
  absl::Status Boot(const std::string& kernel, const std::string& command_line);
  absl::Status Handle(VcpuExit& exit);
  std::string TakeLine(const std::string& text);

  std::string console_;
  BareUart uart_;
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<IrqLine> uart_line_;
  std::unique_ptr<Vcpu> vcpu_;
};

}  // namespace drover

#endif  // E2E_KVM_STATE_MACHINE_H_
