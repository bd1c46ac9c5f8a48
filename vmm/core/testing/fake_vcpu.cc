#include "vmm/core/testing/fake_vcpu.h"

#include <utility>

namespace drover {

void FakeVcpuScript::Push(Item item) {
  MutexLock lock(&mutex_);
  items_.push_back(std::move(item));
  changed_.SignalAll();
}

void FakeVcpuScript::Queue(VcpuExit exit) {
  QueueStep([exit = std::move(exit)] { return exit; });
}

void FakeVcpuScript::QueueStep(Step step) { Push({std::move(step), nullptr, false}); }

void FakeVcpuScript::QueueError(absl::Status status) {
  QueueStep([status = std::move(status)]() -> absl::StatusOr<VcpuExit> { return status; });
}

void FakeVcpuScript::QueueAccess(std::vector<uint8_t> bytes, bool is_read,
                                 std::function<VcpuExit(std::span<uint8_t>)> make) {
  auto data = std::make_shared<std::vector<uint8_t>>(std::move(bytes));
  Push({.step = [data, make] { return make(*data); }, .data = data, .is_read = is_read});
}

void FakeVcpuScript::QueuePortWrite(uint16_t port, std::vector<uint8_t> bytes) {
  QueueAccess(std::move(bytes), false, [port](std::span<uint8_t> data) {
    return PortExit{port, true, static_cast<uint8_t>(data.size()), 1, data};
  });
}

void FakeVcpuScript::QueuePortRead(uint16_t port, uint8_t size) {
  QueueAccess(std::vector<uint8_t>(size), true, [port](std::span<uint8_t> data) {
    return PortExit{port, false, static_cast<uint8_t>(data.size()), 1, data};
  });
}

void FakeVcpuScript::QueueMmioWrite(uint64_t address, std::vector<uint8_t> bytes) {
  QueueAccess(std::move(bytes), false, [address](std::span<uint8_t> data) {
    return MmioExit{address, true, data};
  });
}

void FakeVcpuScript::QueueMmioRead(uint64_t address, uint8_t size) {
  QueueAccess(std::vector<uint8_t>(size), true, [address](std::span<uint8_t> data) {
    return MmioExit{address, false, data};
  });
}

void FakeVcpuScript::FinishRead() {
  if (last_.is_read) answers_.push_back(*last_.data);
  last_ = {};
}

absl::StatusOr<VcpuExit> FakeVcpuScript::Run() {
  Step step;
  {
    MutexLock lock(&mutex_);
    ++runs_;
    FinishRead();
    running_ = true;
    while (items_.empty() && !kicked_) {
      idle_ = true;
      changed_.SignalAll();
      changed_.Wait(&mutex_);
    }
    idle_ = running_ = false;
    if (std::exchange(kicked_, false)) return InterruptedExit{};
    last_ = std::move(items_.front());
    items_.pop_front();
    step = last_.step;
  }
  return step();
}

void FakeVcpuScript::Kick() {
  MutexLock lock(&mutex_);
  ++kicks_;
  kicked_ = true;
  changed_.SignalAll();
}

absl::Status FakeVcpuScript::CompleteExit() {
  MutexLock lock(&mutex_);
  ++completions_;
  if (complete_status_.ok()) FinishRead();
  return complete_status_;
}

absl::Status FakeVcpuScript::SetUpForBoot(const BootRegisters& boot) {
  MutexLock lock(&mutex_);
  boots_.push_back(boot);
  return boot_status_;
}

void FakeVcpuScript::NotePause() {
  MutexLock lock(&mutex_);
  ++pauses_;
}

std::string FakeVcpuScript::Registers() const {
  MutexLock lock(&mutex_);
  return registers_;
}

std::vector<std::vector<uint8_t>> FakeVcpuScript::answers() const {
  MutexLock lock(&mutex_);
  return answers_;
}

std::vector<BootRegisters> FakeVcpuScript::boots() const {
  MutexLock lock(&mutex_);
  return boots_;
}

int FakeVcpuScript::runs() const {
  MutexLock lock(&mutex_);
  return runs_;
}

int FakeVcpuScript::kicks() const {
  MutexLock lock(&mutex_);
  return kicks_;
}

int FakeVcpuScript::completions() const {
  MutexLock lock(&mutex_);
  return completions_;
}

int FakeVcpuScript::pauses() const {
  MutexLock lock(&mutex_);
  return pauses_;
}

bool FakeVcpuScript::running() const {
  MutexLock lock(&mutex_);
  return running_;
}

void FakeVcpuScript::FailSetUpForBoot(absl::Status status) {
  MutexLock lock(&mutex_);
  boot_status_ = std::move(status);
}

void FakeVcpuScript::FailCompleteExit(absl::Status status) {
  MutexLock lock(&mutex_);
  complete_status_ = std::move(status);
}

void FakeVcpuScript::SetRegisters(std::string text) {
  MutexLock lock(&mutex_);
  registers_ = std::move(text);
}

void FakeVcpuScript::WaitUntilIdle() {
  MutexLock lock(&mutex_);
  while (!idle_ || !items_.empty()) changed_.Wait(&mutex_);
}

}  // namespace drover
