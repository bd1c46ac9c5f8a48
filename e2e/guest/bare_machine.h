// A virtual machine made of nothing but KVM calls, for bare_kvm: RAM, in-kernel irqchip and PIT,
// vCPUs, a 16550, and ports that end it. The baseline that Drover is measured against.
#ifndef E2E_GUEST_BARE_MACHINE_H_
#define E2E_GUEST_BARE_MACHINE_H_

#include <linux/kvm.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "e2e/guest/bare_pvh.h"
#include "e2e/guest/bare_uart.h"

namespace drover {

static_assert(sizeof(kvm_cpuid2) == 8);

// How a guest ended; the values are bare_kvm's exit codes.
enum class BareExit : int {
  kPowerOff = 0,
  kFailed = 1,  // a KVM error, or an instruction that KVM could not emulate
  kReset = 3,
  kHalt = 4,         // hlt with no interrupt to wait for: only without irqchip
  kTripleFault = 5,  // KVM_EXIT_SHUTDOWN
  kTimeout = 6,
};

struct BareOptions {
  std::string kernel;
  std::string command_line;
  size_t memory_size = 128 << 20;  // bytes, at most 3 GiB
  unsigned cpus = 1;
  bool irqchip = true;
};

// Any failure to set up prints what failed and exits with kFailed: this is a tool, not a library
// for others.
class BareMachine {
 public:
  // Called by a vCPU's thread.
  using OnExit = std::function<void(BareExit)>;

  BareMachine(const BareOptions& options, BareUart::Output output, OnExit on_exit);

  // Runs one vCPU (0..cpus-1) on the calling thread; returns when the machine has ended.
  void RunVcpu(unsigned index);

  void FeedConsole(const char* bytes, size_t count) { uart_.Feed(bytes, count); }

 private:
  struct Vcpu {
    int fd;
    kvm_run* run;
  };

  void CreateMemory();
  void CreateInterruptController();
  void CreateVcpu(unsigned index, int run_size);
  void SetBootRegisters();
  void SetIrq(bool level);

  // Each returns false at the end of the machine.
  bool HandleExit(Vcpu& vcpu);
  bool HandlePort(kvm_run& run);
  bool WritePort(uint16_t port, uint32_t value);
  bool End(BareExit exit);

  const BareOptions options_;
  const OnExit on_exit_;
  BareUart uart_;
  int kvm_ = -1;
  int vm_ = -1;
  uint8_t* memory_ = nullptr;
  PvhBoot boot_ = {};
  std::unique_ptr<kvm_cpuid2, void (*)(void*)> cpuid_;
  std::vector<Vcpu> vcpus_;
};

}  // namespace drover

#endif  // E2E_GUEST_BARE_MACHINE_H_
