#include "vmm/kvm/kvm_exit.h"

#include <algorithm>

namespace drover {
namespace {

constexpr uint32_t kInstructionData = 3;  // words of `internal.data`: flags, size and bytes

PortExit DecodePort(struct kvm_run* run) {
  const auto& io = run->io;
  uint8_t* const data = reinterpret_cast<uint8_t*>(run) + io.data_offset;
  return {.port = io.port,
          .is_write = io.direction == KVM_EXIT_IO_OUT,
          .size = io.size,
          .count = io.count,
          .data = {data, size_t{io.size} * io.count}};
}

MmioExit DecodeMmio(struct kvm_run* run) {
  auto& mmio = run->mmio;
  const size_t size = std::min<size_t>(mmio.len, sizeof(mmio.data));
  return {.address = mmio.phys_addr, .is_write = mmio.is_write != 0, .data = {mmio.data, size}};
}

SystemEventExit DecodeSystemEvent(uint32_t type) {
  switch (type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
      return {SystemEventExit::Kind::kShutdown};
    case KVM_SYSTEM_EVENT_RESET:
      return {SystemEventExit::Kind::kReset};
    case KVM_SYSTEM_EVENT_CRASH:
      return {SystemEventExit::Kind::kCrash};
    default:
      return {SystemEventExit::Kind::kOther};
  }
}

InternalErrorExit DecodeInternalError(const struct kvm_run* run) {
  InternalErrorExit out = {.suberror = run->internal.suberror,
                           .emulation = run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION};
  const auto& failure = run->emulation_failure;
  if (out.emulation && failure.ndata >= kInstructionData &&
      (failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
    const size_t size = std::min<size_t>(failure.insn_size, sizeof(failure.insn_bytes));
    out.instruction.assign(failure.insn_bytes, failure.insn_bytes + size);
  }
  return out;
}

MsrExit DecodeMsr(struct kvm_run* run) {
  auto& msr = run->msr;
  uint64_t* const value = reinterpret_cast<uint64_t*>(&msr.data);
  return {.index = msr.index,
          .is_write = run->exit_reason == KVM_EXIT_X86_WRMSR,
          .value = value,
          .error = &msr.error};
}

}  // namespace

VcpuExit DecodeExit(struct kvm_run* run) {
  switch (run->exit_reason) {
    case KVM_EXIT_IO:
      return DecodePort(run);
    case KVM_EXIT_MMIO:
      return DecodeMmio(run);
    case KVM_EXIT_HLT:
      return HaltExit{};
    case KVM_EXIT_INTR:
    case KVM_EXIT_X86_BUS_LOCK:  // the guest was slowed down, which is all there is to it
      return InterruptedExit{};
    case KVM_EXIT_SHUTDOWN:
      return ShutdownExit{};
    case KVM_EXIT_SYSTEM_EVENT:
      return DecodeSystemEvent(run->system_event.type);
    case KVM_EXIT_FAIL_ENTRY:
      return FailEntryExit{run->fail_entry.hardware_entry_failure_reason};
    case KVM_EXIT_INTERNAL_ERROR:
      return DecodeInternalError(run);
    case KVM_EXIT_DIRTY_RING_FULL:
      return DirtyRingFullExit{};
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
      return DecodeMsr(run);
    case KVM_EXIT_HYPERCALL:
      return HypercallExit{run->hypercall.nr};
    default:
      return UnknownExit{run->exit_reason};
  }
}

}  // namespace drover
