// A one-vCPU machine for the test guest that runs on the calling thread in slices, so that it can
// be looked at, and copied, between two instructions. x86-64 only. Thread-compatible.
#ifndef E2E_GUEST_COPY_MACHINE_H_
#define E2E_GUEST_COPY_MACHINE_H_

#include <linux/kvm.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "e2e/guest/bare_uart.h"
#include "e2e/guest/vcpu_copy.h"

namespace drover {

// The first failure is kept in error(); nothing runs after it.
class CopyMachine {
 public:
  // Without a kernel the memory is zero and the vCPU as KVM made it: to be filled by Take.
  CopyMachine(const std::string& kernel, const std::string& command_line, bool with_svm = true);
  ~CopyMachine();
  CopyMachine(const CopyMachine&) = delete;

  // Runs until `done`, which is asked every 2 ms or so while the vCPU is stopped and no exit is
  // half served. False after `seconds`, or when the guest ended or error() is set.
  bool Run(const std::function<bool()>& done, int seconds = 60);

  // Runs until the console's output has `text`; it is then forgotten up to that line's end.
  // Returns the line, or "".
  std::string RunUntil(const std::string& text);

  // Runs until the command is answered, or a fault reported. Returns all that was printed; nothing
  // after half a minute.
  std::string Ask(const std::string& command);

  // All parts of the vCPU.
  VcpuCopy Copy();

  // The memory and interrupt controllers of `from`, and `copy`'s parts in the given order. Returns
  // "" or the call that failed.
  std::string Take(const CopyMachine& from, const std::vector<VcpuPart>& order,
                   const VcpuCopy& copy);

  int vcpu() const { return vcpu_; }
  int nested_size() const { return nested_size_; }  // KVM_CAP_NESTED_STATE
  const std::vector<uint32_t>& msrs() const { return msrs_; }
  const std::string& error() const { return error_; }

 private:
  void Fail(const std::string& what);
  int Check(int result, const char* what);
  void CreateVm();
  void CreateVcpu(bool with_svm);
  void Boot(const std::string& kernel, const std::string& command_line);
  bool HasLine(const std::string& text) const;
  void HandleExit();
  void HandlePort();

  std::string console_, error_;
  BareUart uart_;
  int kvm_ = -1, vm_ = -1, vcpu_ = -1, nested_size_ = 0;
  size_t run_size_ = 0;
  uint8_t* memory_ = nullptr;
  kvm_run* run_ = nullptr;
  std::vector<uint32_t> msrs_;
};

}  // namespace drover

#endif  // E2E_GUEST_COPY_MACHINE_H_
