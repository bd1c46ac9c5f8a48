#include "e2e/kvm/state_machine.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "e2e/guest/bare_pvh.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr uint16_t kUartBase = 0x3f8;
constexpr uint32_t kUartGsi = 4;
constexpr std::chrono::milliseconds kSlice{3};
constexpr std::chrono::minutes kLimit{1};

// Takes the vCPU out of its guest every kSlice.
class Slicer {
 public:
  explicit Slicer(Vcpu* vcpu)
      : thread_([this, vcpu] {
          while (!done_) {
            std::this_thread::sleep_for(kSlice);
            vcpu->Kick();
          }
        }) {}
  ~Slicer() {
    done_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> done_{false};
  std::thread thread_;
};

}  // namespace

StateMachine::StateMachine(std::unique_ptr<Vm> vm)
    : uart_([this](char c) { console_ += c; },
            [this](bool level) {
              if (uart_line_ != nullptr) uart_line_->Set(level);
            }),
      vm_(std::move(vm)) {}

absl::StatusOr<std::unique_ptr<StateMachine>> StateMachine::Create(
    Hypervisor& hypervisor, const std::string& kernel, const std::string& command_line) {
  ASSIGN_OR_RETURN(auto memory, GuestMemory::Create({{0, kMemoryBytes}}));
  ASSIGN_OR_RETURN(auto vm, hypervisor.CreateVm(std::move(memory)));
  std::unique_ptr<StateMachine> machine(new StateMachine(std::move(vm)));
  RETURN_IF_ERROR(machine->vm_->CreateIrqchip({}));
  ASSIGN_OR_RETURN(machine->uart_line_, machine->vm_->MakeIrqLine(kUartGsi));
  ASSIGN_OR_RETURN(machine->vcpu_, machine->vm_->CreateVcpu(0, 1));
  if (!kernel.empty()) RETURN_IF_ERROR(machine->Boot(kernel, command_line));
  return machine;
}

absl::Status StateMachine::Boot(const std::string& kernel, const std::string& command_line) {
  PvhBoot boot;
  std::string error;
  std::vector<uint8_t> memory(kMemoryBytes);
  if (!LoadPvh(kernel, command_line, memory.data(), memory.size(), &boot, &error))
    return absl::InvalidArgumentError(error);
  RETURN_IF_ERROR(vm_->memory().Write(0, memory));
  return vcpu_->SetUpForBoot({.rip = boot.entry, .rbx = boot.start_info});
}

absl::Status StateMachine::Handle(VcpuExit& exit) {
  if (auto* mmio = std::get_if<MmioExit>(&exit)) {
    if (!mmio->is_write) memset(mmio->data.data(), 0xff, mmio->data.size());
    return absl::OkStatus();
  }
  auto* port = std::get_if<PortExit>(&exit);
  if (port == nullptr)
    return absl::InternalError(absl::StrCat("exit ", exit.index(), "\n", vcpu_->DumpRegisters()));
  const bool uart = port->port >= kUartBase && port->port < kUartBase + 8;
  const auto offset = static_cast<uint16_t>(port->port - kUartBase);
  if (!port->is_write) {
    memset(port->data.data(), 0xff, port->data.size());
    if (uart) port->data[0] = uart_.Read(offset);
  } else if (uart) {
    uart_.Write(offset, port->data[0]);
  }
  return absl::OkStatus();
}

absl::Status StateMachine::Run(const std::function<bool()>& done) {
  const Slicer slicer(vcpu_.get());
  const auto end = std::chrono::steady_clock::now() + kLimit;
  for (;;) {
    ASSIGN_OR_RETURN(VcpuExit exit, vcpu_->Run());
    if (!std::holds_alternative<InterruptedExit>(exit)) {
      RETURN_IF_ERROR(Handle(exit));
    } else if (done()) {
      return absl::OkStatus();
    } else if (std::chrono::steady_clock::now() > end) {
      return absl::DeadlineExceededError(absl::StrCat("a minute; the console:\n", console_));
    }
  }
}

std::string StateMachine::TakeLine(const std::string& text) {
  const size_t at = console_.find(text);
  if (at == std::string::npos) return "";
  const size_t end = console_.find('\n', at);
  if (end == std::string::npos) return "";
  const std::string line = console_.substr(at, end - at);
  console_.erase(0, end + 1);
  return line;
}

absl::StatusOr<std::string> StateMachine::RunUntil(const std::string& text) {
  std::string line;
  RETURN_IF_ERROR(Run([&] { return !(line = TakeLine(text)).empty(); }));
  return line;
}

absl::StatusOr<std::string> StateMachine::Ask(const std::string& command) {
  const std::string line = command + "\n";
  uart_.Feed(line.data(), line.size());
  const std::string verb = command.substr(0, command.find(' '));
  std::string answer;
  RETURN_IF_ERROR(Run([&] {
    for (const std::string& start : {"ok " + verb, "error " + verb, std::string("fault vector")})
      if (answer.empty()) answer = TakeLine(start);
    return !answer.empty();
  }));
  return answer;
}

absl::Status StateMachine::Take(StateMachine& from, const VcpuState& state) {
  std::vector<uint8_t> memory(kMemoryBytes);
  RETURN_IF_ERROR(from.vm_->memory().Read(0, memory));
  RETURN_IF_ERROR(vm_->memory().Write(0, memory));
  ASSIGN_OR_RETURN(PvClock clock, from.vm_->GetPvClock());
  clock.realtime_nanos.reset();
  RETURN_IF_ERROR(vm_->SetPvClock(clock));
  RETURN_IF_ERROR(vcpu_->RestoreState(state));
  ASSIGN_OR_RETURN(const IrqchipState chips, from.vm_->SaveIrqchip());
  return vm_->RestoreIrqchip(chips);
}

}  // namespace drover
