#include "vmm/core/testing/fake_vcpu.h"

#include <cerrno>
#include <utility>

#include "absl/strings/str_format.h"
#include "vmm/base/status.h"
#include "vmm/core/vcpu_state_check.h"
#include "vmm/core/vm_errors.h"

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
  Push({.step = [data, make = std::move(make)] { return make(*data); },
        .data = data,
        .is_read = is_read});
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

namespace {

// CPUID of nobody's processor: the vendor's letters are "DroverFake!!".
constexpr CpuidEntry kVendorLeaf = {
    .leaf = 0, .eax = 1, .ebx = 0x766f7244, .ecx = 0x2121656b, .edx = 0x61467265};
constexpr uint32_t kTscKhz = 1'000'000;
constexpr uint32_t kPat = 0x277, kTscAux = 0xC0000103;
constexpr uint32_t kMsrs[] = {0x174, 0x175, kPat, kTscAux};

// The one rule of a value that these have: a PAT's bytes are memory types (SDM vol. 3A §12.12.2).
bool TakesMsr(uint32_t index, uint64_t value) {
  if (index != kPat) return true;
  for (; value != 0; value >>= 8)
    if ((value & 0xFF) > 7) return false;
  return true;
}

absl::Status DoesNotTake(uint32_t index, uint64_t value) {
  return Malformed(absl::StrFormat("MSR %#x does not take the value %#x", index, value));
}

// Less than struct kvm_xsave there is never.
uint32_t XsaveBytes(const BackendCapabilities& capabilities) {
  return std::max<uint32_t>(capabilities.xsave_bytes, 4096);
}

VcpuState StateAtBoot(uint32_t id, const BackendCapabilities& capabilities, bool lapic) {
  VcpuState state;
  state.id = id;
  state.cpuid = {kVendorLeaf, {.leaf = 1, .ebx = id << 24}};
  state.tsc = {.khz = kTscKhz, .offset = 0, .value = 0};
  state.xcrs = {{0, 1}};
  state.xsave.resize(XsaveBytes(capabilities));
  if (lapic) state.lapic.emplace();
  state.msrs = {{0x174, 0}, {0x175, 0}, {kPat, 0x0007040600070406}, {kTscAux, 0}};
  if (capabilities.nested_state_bytes != 0)
    state.nested = NestedStateBuffer::Idle(NestedFormatOf(state.cpuid));
  if (lapic && id != 0) state.mp_state = MpState::kUninitialized;
  return state;
}

}  // namespace

FakeVcpu::FakeVcpu(uint32_t id, std::shared_ptr<FakeVcpuScript> script,
                   const BackendCapabilities& capabilities, bool lapic,
                   std::function<absl::Status(const char*)> failure_of)
    : id_(id),
      script_(std::move(script)),
      capabilities_(capabilities),
      lapic_(lapic),
      failure_of_(std::move(failure_of)) {}

absl::StatusOr<VcpuExit> FakeVcpu::Run() {
  if (mixed_) return absl::FailedPreconditionError("the vCPU is a mixture");
  has_run_ = true;
  return script_->Run();
}

absl::Status FakeVcpu::SetUpForBoot(const BootRegisters& boot) {
  mixed_ = true;
  RETURN_IF_ERROR(script_->SetUpForBoot(boot));
  mixed_ = false;
  state_ = StateAtBoot(id_, capabilities_, lapic_);
  if (id_ != 0) return absl::OkStatus();
  state_->regs = {.rbx = boot.rbx, .rsi = boot.rsi, .rsp = boot.rsp, .rip = boot.rip};
  return absl::OkStatus();
}

absl::StatusOr<VcpuState> FakeVcpu::SaveState() {
  if (!state_) return absl::FailedPreconditionError("the vCPU was never set up");
  if (mixed_) return absl::FailedPreconditionError("the vCPU is a mixture");
  RETURN_IF_ERROR(script_->CompleteExit());
  RETURN_IF_ERROR(failure_of_("SaveState"));
  return *state_;
}

absl::Status FakeVcpu::RestoreState(const VcpuState& state) {
  VcpuStateLimits limits = {.id = id_,
                            .vendor = CpuidVendor({kVendorLeaf}),
                            .tsc_khz = kTscKhz,
                            .tsc_control = capabilities_.tsc_control,
                            .tsc_offset = true,
                            .xsave_bytes = XsaveBytes(capabilities_),
                            .xcrs = true,
                            .lapic = lapic_,
                            .nested_state_bytes = capabilities_.nested_state_bytes,
                            .msrs = kMsrs,
                            .fixed_cpuid = std::nullopt};
  if (has_run_ && state_) limits.fixed_cpuid = state_->cpuid;
  RETURN_IF_ERROR(CheckVcpuState(state, limits));
  mixed_ = true;
  RETURN_IF_ERROR(failure_of_("RestoreState"));
  for (const MsrValue& msr : state.msrs)
    if (!TakesMsr(msr.index, msr.value)) return DoesNotTake(msr.index, msr.value);
  state_ = state;
  if (state.xcrs.empty()) state_->xcrs = {{0, 1}};
  mixed_ = false;
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> FakeVcpu::GetMsr(uint32_t index) {
  const VcpuState& state = state_ ? *state_ : StateAtBoot(id_, capabilities_, lapic_);
  if (const MsrValue* msr = FindMsr(state, index)) return msr->value;
  return PosixStatus(ENOENT, "MSR", absl::StrFormat("%#x", index));
}

absl::Status FakeVcpu::SetMsr(uint32_t index, uint64_t value) {
  if (!state_) state_ = StateAtBoot(id_, capabilities_, lapic_);
  MsrValue* msr = FindMsr(&*state_, index);
  if (msr == nullptr || !TakesMsr(index, value)) return DoesNotTake(index, value);
  msr->value = value;
  return absl::OkStatus();
}

}  // namespace drover
