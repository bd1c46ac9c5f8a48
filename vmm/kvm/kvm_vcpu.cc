#include "vmm/kvm/kvm_vcpu.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/kvm/kvm_exit.h"
#include "vmm/kvm/kvm_ioctl.h"

namespace drover {
namespace {

pid_t ThisThread() {
  thread_local const pid_t tid = static_cast<pid_t>(syscall(SYS_gettid));
  return tid;
}

// Lets the kick's signal through on this thread; the first time only.
void UnblockKickSignal() {
  thread_local const bool done = [] {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, KickSignal());
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    return true;
  }();
  (void)done;
}

// This thread is the runner as long as it lives.
class RunnerScope {
 public:
  explicit RunnerScope(std::atomic<pid_t>* runner) : runner_(runner) {
    runner_->store(ThisThread());
  }
  ~RunnerScope() { runner_->store(0); }

 private:
  std::atomic<pid_t>* const runner_;
};

}  // namespace

int KickSignal() { return SIGRTMIN; }

KvmVcpu::KvmVcpu(std::shared_ptr<KvmMachine> machine, uint32_t id, uint32_t vcpu_count,
                 KvmVcpuParts parts)
    : machine_(std::move(machine)),
      id_(id),
      vcpu_count_(vcpu_count),
      process_(getpid()),
      parts_(std::move(parts)) {}

absl::StatusOr<KvmVcpuParts> MakeVcpuParts(const KvmHost& host, int vm_fd, uint32_t id) {
  KvmVcpuParts parts;
  ASSIGN_OR_RETURN(parts.fd, KvmIoctlFd(vm_fd, KVM_CREATE_VCPU, id, "KVM_CREATE_VCPU"));
  ASSIGN_OR_RETURN(parts.run, MappedRegion::MapShared(parts.fd.get(), 0, host.run_bytes(),
                                                      PROT_READ | PROT_WRITE));
  return parts;
}

absl::StatusOr<std::unique_ptr<Vcpu>> KvmVcpu::Create(std::shared_ptr<KvmMachine> machine,
                                                      uint32_t id, uint32_t vcpu_count) {
  std::optional<KvmVcpuParts> parts = id == 0 ? machine->TakeFirstVcpu() : std::nullopt;
  if (!parts.has_value()) {
    ASSIGN_OR_RETURN(parts, MakeVcpuParts(*machine->host, machine->vm.get(), id));
  }
  RETURN_IF_ERROR(machine->rings.AddVcpu(parts->fd.get()));
  return std::unique_ptr<Vcpu>(new KvmVcpu(std::move(machine), id, vcpu_count, *std::move(parts)));
}

// How kicks and runs meet. A kicker sets kicked_; the first to do so stores immediate_exit, then
// reads runner_ and signals it. The runner stores runner_ before KVM_RUN, and after EINTR clears
// immediate_exit, then exchanges kicked_. All are sequentially consistent.
// - None is lost: if the kicker read runner_ == 0, the runner's store of it comes later, so its
//   KVM_RUN sees immediate_exit. Otherwise the signal makes KVM_RUN return, or is pending when it
//   enters the guest. If the runner's clearing overwrote the kicker's immediate_exit, then kicked_
//   was stored before the exchange, which sees it.
// - None is doubled: only the exchange makes Run return InterruptedExit, and it takes kicked_ away.
//   A signal or an immediate_exit that comes after it is met by kicked_ == false: KVM_RUN again.
// - Signals do not pile up: one for each time that kicked_ becomes true, and then a Run has
// returned. A kick that meets another exit stays pending for the next Run, whose KVM_RUN completes
// that exit's I/O before it returns EINTR.
absl::StatusOr<VcpuExit> KvmVcpu::Run() {
  RETURN_IF_ERROR(CheckWhole());
  if (held_exit_) return *std::exchange(held_exit_, std::nullopt);
  UnblockKickSignal();
  has_run_ = true;
  const RunnerScope runner(&runner_);
  for (;;) {
    const int result = ioctl(parts_.fd.get(), KVM_RUN, 0);
    if (result == 0 && run()->exit_reason != KVM_EXIT_INTR) return Decode();
    // EAGAIN: a vCPU that waited for SIPI was woken up.
    if (result != 0 && errno != EINTR && errno != EAGAIN)
      return PosixStatus(errno, "KVM_RUN", absl::StrCat("vCPU ", id_));
    if (TakeKick()) return InterruptedExit{};
  }
}

bool KvmVcpu::TakeKick() {
  immediate_exit().store(0);
  return kicked_.exchange(false);
}

void KvmVcpu::Kick() {
  if (kicked_.exchange(true)) return;  // the Run that takes that kick takes this one too
  immediate_exit().store(1);
  const pid_t runner = runner_.load();
  if (runner == ThisThread())
    return;  // from its own Run's signal handler: KVM_RUN is not entered yet
  // The thread may have left Run, or even ended, in between: the signal then does nothing.
  if (runner != 0) syscall(SYS_tgkill, process_, runner, KickSignal());
}

absl::Status KvmVcpu::CompleteExit() {
  if (held_exit_) return absl::UnavailableError("the vCPU has an exit to be handled first");
  if (!has_run_) return absl::OkStatus();
  immediate_exit().store(1);
  const int result = ioctl(parts_.fd.get(), KVM_RUN, 0);
  const int error = errno;
  immediate_exit().store(0);
  if (kicked_.load()) immediate_exit().store(1);  // as in Run: a kick's store was not undone
  if (result != 0 && (error == EINTR || error == EAGAIN)) return absl::OkStatus();
  if (result != 0) return PosixStatus(error, "KVM_RUN", absl::StrCat("to complete vCPU ", id_));
  if (run()->exit_reason == KVM_EXIT_INTR) return absl::OkStatus();
  held_exit_ = Decode();
  return absl::UnavailableError("the instruction has a further exit");
}

VcpuExit KvmVcpu::Decode() {
  VcpuExit exit = DecodeExit(run());
  auto* error = std::get_if<InternalErrorExit>(&exit);
  if (error != nullptr && error->emulation && error->instruction.empty())
    error->instruction = InstructionBytes();
  return exit;
}

absl::Status KvmVcpu::NotifyPaused() {
  const absl::Status status = KvmIoctl(parts_.fd.get(), KVM_KVMCLOCK_CTRL, 0, "KVM_KVMCLOCK_CTRL");
  if (PosixErrno(status) == std::optional<int>(EINVAL)) return absl::OkStatus();  // no kvmclock
  return status;
}

}  // namespace drover
