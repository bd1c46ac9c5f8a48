#include "vmm/worker/vcpu_exits.h"

#include <cerrno>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

using Stop = std::optional<MachineStop>;

MachineStop Failed(absl::string_view reason, std::string message) {
  return {MachineStop::Kind::kFailed, std::string(reason), std::move(message)};
}

MachineStop Unknown(absl::string_view what) {
  return Failed("UNKNOWN_EXIT",
                absl::StrCat("the guest left its vCPU for a cause that is not known: ", what));
}

struct Handler {
  const IoBus& ports;
  const IoBus& mmio;

  Stop operator()(PortExit& exit) const {
    for (uint32_t i = 0; i < exit.count; ++i) {
      const std::span<uint8_t> item = exit.data.subspan(size_t{i} * exit.size, exit.size);
      if (exit.is_write)
        ports.Write(exit.port, item);
      else
        ports.Read(exit.port, item);
    }
    return std::nullopt;
  }
  Stop operator()(MmioExit& exit) const {
    if (exit.is_write)
      mmio.Write(exit.address, exit.data);
    else
      mmio.Read(exit.address, exit.data);
    return std::nullopt;
  }
  // The machine has an in-kernel interrupt controller, which handles HLT itself.
  Stop operator()(HaltExit&) const { return Unknown("HLT without interrupt controller"); }
  Stop operator()(InterruptedExit&) const { return std::nullopt; }
  Stop operator()(ShutdownExit&) const {
    return Failed("TRIPLE_FAULT",
                  "the guest's processor shut down: an exception occurred while it called its "
                  "double-fault handler (triple fault)");
  }
  Stop operator()(SystemEventExit& exit) const {
    switch (exit.kind) {
      case SystemEventExit::Kind::kShutdown:
        return MachineStop{MachineStop::Kind::kShutdown, "GUEST_SHUTDOWN", "the guest powered off"};
      case SystemEventExit::Kind::kReset:
        return MachineStop{MachineStop::Kind::kReset, "GUEST_RESET", "the guest asked for a reset"};
      case SystemEventExit::Kind::kCrash:
        return Failed("GUEST_CRASH", "the guest reported that it crashed");
      case SystemEventExit::Kind::kOther:
        break;
    }
    return Unknown("system event");
  }
  Stop operator()(FailEntryExit& exit) const {
    return Failed("FAIL_ENTRY",
                  absl::StrCat("the processor refused to enter the guest; hardware reason 0x",
                               absl::Hex(exit.hardware_reason)));
  }
  Stop operator()(InternalErrorExit& exit) const {
    MachineStop stop =
        exit.emulation
            ? Failed("EMULATION_FAILED", "KVM could not emulate an instruction of the guest")
            : Failed("INTERNAL_ERROR",
                     absl::StrCat("KVM reported an internal error, suberror ", exit.suberror));
    stop.instruction = std::move(exit.instruction);
    return stop;
  }
  Stop operator()(DirtyRingFullExit&) const { return Unknown("dirty ring full"); }
  Stop operator()(MsrExit& exit) const {
    *exit.error = 1;
    return std::nullopt;
  }
  Stop operator()(HypercallExit& exit) const {
    return Unknown(absl::StrCat("hypercall ", exit.number));
  }
  Stop operator()(UnknownExit& exit) const {
    return Unknown(absl::StrCat("KVM exit reason ", exit.reason));
  }
};

}  // namespace

Stop HandleExit(VcpuExit& exit, const IoBus& ports, const IoBus& mmio) {
  return std::visit(Handler{ports, mmio}, exit);
}

Stop HandleRunError(const absl::Status& status) {
  switch (PosixErrno(status).value_or(0)) {
    case EINTR:
    case EAGAIN:  // a vCPU that waits for INIT or SIPI was woken (KVM_RUN)
      return std::nullopt;
    case EFAULT:
      return Failed("KVM_ERROR", absl::StrCat("the guest touched memory that the host could not "
                                              "supply: ",
                                              status.message()));
    default:
      return Failed("KVM_ERROR", absl::StrCat("a vCPU could not be run: ", status.message()));
  }
}

}  // namespace drover
