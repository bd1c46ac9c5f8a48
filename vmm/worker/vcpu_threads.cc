#include "vmm/worker/vcpu_threads.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

std::string Hex(const std::vector<uint8_t>& bytes) {
  if (bytes.empty()) return "unknown";
  return absl::BytesToHexString({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

void LogFailure(Vcpu& vcpu, const MachineStop& stop) {
  Log(LogLevel::kError, "a vCPU failed",
      {{"vcpu", vcpu.id()},
       {"reason", stop.reason},
       {"error", stop.message},
       {"instruction", Hex(stop.instruction)}});
  const std::string registers = vcpu.DumpRegisters();
  for (const absl::string_view line : absl::StrSplit(registers, '\n', absl::SkipEmpty()))
    Log(LogLevel::kError, "registers", {{"vcpu", vcpu.id()}, {"values", line}});
}

}  // namespace

absl::StatusOr<std::unique_ptr<VcpuThreads>> VcpuThreads::Create(Options options,
                                                                 const std::vector<Vcpu*>& vcpus) {
  std::unique_ptr<VcpuThreads> threads(new VcpuThreads(std::move(options)));
  for (Vcpu* vcpu : vcpus) {
    threads->slots_.push_back(std::make_unique<Slot>());
    threads->slots_.back()->owner = threads.get();
    threads->slots_.back()->vcpu = vcpu;
  }
  for (const auto& slot : threads->slots_) {
    ASSIGN_OR_RETURN(slot->thread, threads->MakeThread());
  }
  return threads;
}

absl::StatusOr<std::unique_ptr<VcpuThread>> VcpuThreads::MakeThread() const {
  return options_.make_thread ? options_.make_thread() : VcpuThread::Start(nullptr);
}

VcpuThreads::~VcpuThreads() {
  {
    MutexLock lock(&mutex_);
    SetMode(Mode::kEnd);
    KickRunning();
    parked_ = nullptr;
  }
  for (const auto& slot : slots_) slot->thread.reset();
}

void VcpuThreads::SetMode(Mode mode) {
  mode_.store(mode, std::memory_order_relaxed);
  changed_.SignalAll();
}

// A parked vCPU is not kicked: the kick would wait for it and cost the next run its first exit.
void VcpuThreads::KickRunning() {
  for (const auto& slot : slots_)
    if (!slot->parked) slot->vcpu->Kick();
}

void VcpuThreads::Run() {
  stop_requested_ = false;
  {
    MutexLock lock(&mutex_);
    SetMode(Mode::kRun);
    // Counted here and not by the threads as they wake, so that a Park right after waits for them.
    for (const auto& slot : slots_) slot->parked = false;
    running_ = slots_.size();
  }
  for (const auto& slot : slots_)
    if (!std::exchange(slot->working, true))
      slot->thread->Run(
          [this, &slot = *slot](const absl::Status& entered) { Loop(slot, entered); });
}

void VcpuThreads::Park(EventLoop::Task parked) {
  MutexLock lock(&mutex_);
  SetMode(Mode::kHold);
  if (running_ == 0) return options_.loop->Post(std::move(parked));
  parked_ = std::move(parked);
  KickRunning();
}

void VcpuThreads::RequestStop(MachineStop stop) {
  if (stop_requested_.exchange(true)) return;
  {
    MutexLock lock(&mutex_);
    if (mode_ == Mode::kRun) SetMode(Mode::kHold);
  }
  options_.loop->Post([weak = std::weak_ptr<VcpuThreads*>(self_), stop = std::move(stop)] {
    if (const auto self = weak.lock()) (*self)->options_.on_stop(stop);
  });
}

void VcpuThreads::Loop(Slot& slot, const absl::Status& entered) {
  if (!entered.ok())
    RequestStop({MachineStop::Kind::kFailed, "INTERNAL_ERROR",
                 absl::StrCat("a vCPU thread could not be confined: ", entered.message())});
  while (WaitForRun(slot)) {
    if (entered.ok()) RunVcpu(slot);
    NoteParked(slot);
  }
}

// Waits until Run wants the vCPU to run; false when the thread is to end.
bool VcpuThreads::WaitForRun(Slot& slot) {
  MutexLock lock(&mutex_);
  while (mode_ != Mode::kEnd && slot.parked) changed_.Wait(&mutex_);
  return mode_ != Mode::kEnd;
}

void VcpuThreads::NoteParked(Slot& slot) {
  MutexLock lock(&mutex_);
  slot.parked = true;
  if (--running_ == 0 && parked_) options_.loop->Post(std::exchange(parked_, nullptr));
}

void VcpuThreads::RunVcpu(Slot& slot) {
  while (mode_.load(std::memory_order_relaxed) == Mode::kRun) {
    absl::StatusOr<VcpuExit> exit = slot.vcpu->Run();
    std::optional<MachineStop> stop = exit.ok() ? HandleExit(*exit, *options_.ports, *options_.mmio)
                                                : HandleRunError(exit.status());
    if (stop.has_value()) Fail(slot, *std::move(stop));
  }
  if (absl::Status status = slot.vcpu->CompleteExit(); !status.ok())
    Log(LogLevel::kWarning, "the last exit of a vCPU could not be completed",
        {{"vcpu", slot.vcpu->id()}, {"error", status.message()}});
}

void VcpuThreads::Fail(Slot& slot, MachineStop stop) {
  if (stop.kind == MachineStop::Kind::kFailed) LogFailure(*slot.vcpu, stop);
  RequestStop(std::move(stop));
}

}  // namespace drover
