#ifndef DROVER_VMM_CORE_TESTING_FAKE_VCPU_H_
#define DROVER_VMM_CORE_TESTING_FAKE_VCPU_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/mutex.h"
#include "vmm/core/capabilities.h"
#include "vmm/core/vcpu.h"

namespace drover {

// What one fake vCPU does and what was done to it: tests hold it by FakeHypervisor::script(id),
// before the vCPU exists and after it is gone. Thread-safe.
class FakeVcpuScript {
 public:
  using Step = std::function<absl::StatusOr<VcpuExit>()>;

  // Adds an exit; Run blocks while there is none, until a kick. Steps run on the vCPU's thread,
  // without a lock.
  void Queue(VcpuExit exit);
  void QueueStep(Step step);
  void QueueError(absl::Status status);
  // Guest accesses, with storage for their data: of `bytes`, or answered by the device.
  void QueuePortWrite(uint16_t port, std::vector<uint8_t> bytes);
  void QueuePortRead(uint16_t port, uint8_t size);
  void QueueMmioWrite(uint64_t address, std::vector<uint8_t> bytes);
  void QueueMmioRead(uint64_t address, uint8_t size);

  // The bytes that the machine answered to each read, in order; complete after the next Run or
  // CompleteExit.
  std::vector<std::vector<uint8_t>> answers() const;
  std::vector<BootRegisters> boots() const;  // arguments of SetUpForBoot
  int runs() const;                          // Runs that began
  int kicks() const;
  int completions() const;
  int pauses() const;  // NotifyPaused
  bool running() const;

  // SetUpForBoot and CompleteExit answer with these from now on.
  void FailSetUpForBoot(absl::Status status);
  void FailCompleteExit(absl::Status status);
  void SetRegisters(std::string text);  // for DumpRegisters

  // Waits until Run blocks without an exit to give.
  void WaitUntilIdle();

 private:
  friend class FakeVcpu;
  // One exit and, for accesses, its data.
  struct Item {
    Step step;
    std::shared_ptr<std::vector<uint8_t>> data;
    bool is_read = false;
  };

  void Push(Item item);
  void QueueAccess(std::vector<uint8_t> bytes, bool is_read,
                   std::function<VcpuExit(std::span<uint8_t>)> make);
  void FinishRead() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::StatusOr<VcpuExit> Run();
  void Kick();
  absl::Status CompleteExit();
  absl::Status SetUpForBoot(const BootRegisters& boot);
  void NotePause();
  std::string Registers() const;

  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<Item> items_ ABSL_GUARDED_BY(mutex_);
  Item last_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::vector<uint8_t>> answers_ ABSL_GUARDED_BY(mutex_);
  std::vector<BootRegisters> boots_ ABSL_GUARDED_BY(mutex_);
  absl::Status boot_status_ ABSL_GUARDED_BY(mutex_);
  absl::Status complete_status_ ABSL_GUARDED_BY(mutex_);
  std::string registers_ ABSL_GUARDED_BY(mutex_) = "rip=0000000000000000\n";
  bool kicked_ ABSL_GUARDED_BY(mutex_) = false;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool idle_ ABSL_GUARDED_BY(mutex_) = false;
  int runs_ ABSL_GUARDED_BY(mutex_) = 0;
  int kicks_ ABSL_GUARDED_BY(mutex_) = 0;
  int completions_ ABSL_GUARDED_BY(mutex_) = 0;
  int pauses_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A vCPU that follows a script, and whose state is what it was set to.
class FakeVcpu : public Vcpu {
 public:
  // `failure_of` is FakeHost::FailureOf.
  FakeVcpu(uint32_t id, std::shared_ptr<FakeVcpuScript> script,
           const BackendCapabilities& capabilities, bool lapic,
           std::function<absl::Status(const char*)> failure_of);

  uint32_t id() const override { return id_; }
  absl::StatusOr<VcpuExit> Run() override;
  void Kick() override { script_->Kick(); }
  absl::Status CompleteExit() override { return script_->CompleteExit(); }
  absl::Status SetUpForBoot(const BootRegisters& boot) override;
  absl::StatusOr<VcpuState> SaveState() override;
  absl::Status RestoreState(const VcpuState& state) override;
  absl::StatusOr<uint64_t> GetMsr(uint32_t index) override;
  absl::Status SetMsr(uint32_t index, uint64_t value) override;
  absl::Status NotifyPaused() override {
    script_->NotePause();
    return absl::OkStatus();
  }
  std::string DumpRegisters() override { return script_->Registers(); }

 private:
  const uint32_t id_;
  const std::shared_ptr<FakeVcpuScript> script_;
  const BackendCapabilities capabilities_;
  const bool lapic_;
  const std::function<absl::Status(const char*)> failure_of_;
  bool has_run_ = false;
  bool mixed_ = false;  // as the real ones are after a RestoreState or SetUpForBoot that failed
  std::optional<VcpuState> state_;  // nothing is behind it: Run changes none of it
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_TESTING_FAKE_VCPU_H_
