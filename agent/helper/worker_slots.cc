#include "agent/helper/worker_slots.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/jail/jail.h"
#include "agent/jail/process_identity.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kRetry(10);
constexpr int kMaxAttempts = 3000;
constexpr milliseconds kProgramLimit(10000);
constexpr size_t kMaxOutputBytes = 64 * 1024;

absl::Status KvmUnusable(const std::string& device, int error) {
  const char* remedy = "";
  if (error == ENOENT)
    remedy =
        "; load kvm_intel or kvm_amd, enable virtualization in the firmware, or use a host "
        "(or VM with nested virtualization) that has it";
  if (error == EACCES || error == EPERM)
    remedy = "; run the helper as root, and allow it the device in its container";
  return WithReason(
      WithPosixErrno(absl::FailedPreconditionError(
                         absl::StrCat(device, " cannot be used: ", strerrordesc_np(error), remedy)),
                     error),
      "KVM_UNUSABLE");
}

// The devices of a jailed process, from its descriptor 4 on. Which userfaultfd a process makes is
// bound to its own memory, so it gets the device; without one the last is not valid.
struct Devices {
  Fd kvm;
  Fd userfaultfd;

  void AddTo(JailOptions* jail) const {
    jail->descriptors.push_back(kvm.get());
    if (userfaultfd.valid()) jail->descriptors.push_back(userfaultfd.get());
  }
};

absl::StatusOr<Devices> OpenDevices(const std::string& kvm, const std::string& userfaultfd) {
  Devices devices;
  ASSIGN_OR_RETURN(devices.kvm, OpenKvm(kvm));
  if (absl::StatusOr<Fd> device = OpenFile(userfaultfd.c_str(), O_RDWR); device.ok())
    devices.userfaultfd = *std::move(device);
  return devices;
}

absl::StatusOr<std::pair<Fd, Fd>> MakePipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return PosixStatus(errno, "pipe2", "");
  return std::make_pair(Fd(fds[0]), Fd(fds[1]));
}

absl::StatusOr<std::string> ReadUntil(int fd, std::chrono::steady_clock::time_point deadline) {
  std::string out;
  for (;;) {
    const auto left = deadline - std::chrono::steady_clock::now();
    struct pollfd entry = {.fd = fd, .events = POLLIN, .revents = 0};
    const int wait = static_cast<int>(std::chrono::ceil<milliseconds>(left).count());
    if (wait <= 0 || poll(&entry, 1, wait) == 0)
      return absl::DeadlineExceededError("the worker program did not end in time");
    char buffer[4096];
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return PosixStatus(errno, "read", "from the worker program");
    if (n == 0) return out;
    out.append(buffer, static_cast<size_t>(n));
    if (out.size() > kMaxOutputBytes)
      return absl::OutOfRangeError("the worker program wrote too much");
  }
}

absl::Status ExitStatus(int pidfd) {
  siginfo_t info = {};
  while (waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd), &info, WEXITED) != 0)
    if (errno != EINTR) return PosixStatus(errno, "waitid", "");
  if (info.si_code == CLD_EXITED && info.si_status == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("the worker program ended with ",
                                          info.si_code == CLD_EXITED ? "status " : "signal ",
                                          info.si_status));
}

}  // namespace

absl::StatusOr<Fd> OpenKvm(const std::string& device) {
  absl::StatusOr<Fd> kvm = OpenFile(device.c_str(), O_RDWR);
  if (!kvm.ok()) return KvmUnusable(device, PosixErrno(kvm.status()).value_or(EIO));
  return kvm;
}

std::optional<ProcessEnd> ReapChild(int pidfd) {
  siginfo_t info = {};
  const int result =
      waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG);
  if (result != 0 || info.si_pid == 0) return std::nullopt;
  return info.si_code == CLD_EXITED ? ProcessEnd{.status = info.si_status}
                                    : ProcessEnd{.signal = info.si_status};
}

WorkerSlots::~WorkerSlots() {
  for (const auto& [id, dying] : dying_) loop_->Unwatch(dying.slot.pidfd.get());
}

absl::StatusOr<Cgroups*> WorkerSlots::cgroups() {
  if (cgroups_ == nullptr) {
    ASSIGN_OR_RETURN(cgroups_, OpenCgroups(options_.cgroup_parent, options_.cgroup_root));
  }
  return cgroups_.get();
}

absl::StatusOr<WorkerSlot> WorkerSlots::Make() {
  WorkerSlot slot;
  ASSIGN_OR_RETURN(slot.uid, uids_.Take());
  const absl::Status status = Spawn(&slot);
  if (status.ok()) return slot;
  uids_.Release(slot.uid);
  return status;
}

absl::Status WorkerSlots::Spawn(WorkerSlot* slot) {
  ASSIGN_OR_RETURN(Cgroups* const groups, cgroups());
  slot->cgroup = absl::StrCat(options_.tag, "-", slot->uid);
  absl::Status made = groups->Create(slot->cgroup);
  if (!made.ok()) {
    cgroups_ = nullptr;  // perhaps its parent has been removed: made again next time
    return WithReason(Annotate(made, "the worker's cgroup"), "CGROUPS_UNUSABLE");
  }
  const absl::Status status = SpawnIn(groups, slot);
  if (status.ok()) return status;
  if (slot->pidfd.valid()) {
    KillProcess(slot->pidfd.get()).IgnoreError();
    ExitStatus(slot->pidfd.get()).IgnoreError();
  }
  for (int i = 0; i < 100 && absl::IsUnavailable(groups->Remove(slot->cgroup)); ++i)
    poll(nullptr, 0, 1);
  return status;
}

absl::Status WorkerSlots::SpawnIn(Cgroups* groups, WorkerSlot* slot) {
  ASSIGN_OR_RETURN(const Devices devices,
                   OpenDevices(options_.kvm_device, options_.userfaultfd_device));
  ASSIGN_OR_RETURN(const Fd null, OpenFile("/dev/null", O_RDWR));
  ASSIGN_OR_RETURN(const Fd executable, OpenFile(options_.worker.c_str(), O_PATH));
  ASSIGN_OR_RETURN(auto channel, UnixChannel::Pair());
  ASSIGN_OR_RETURN(const CgroupEntry entry, groups->Enter(slot->cgroup));
  JailOptions jail;
  jail.executable = executable.get();
  jail.argv = {"drover-vmm", "--worker"};
  jail.descriptors = {null.get(), null.get(), STDERR_FILENO, channel.second.fd()};
  devices.AddTo(&jail);
  jail.namespaces = options_.namespaces.flags;
  jail.uid = slot->uid;
  jail.cgroup = entry.clone_target.get();
  for (const Fd& join : entry.joins) jail.cgroup_joins.push_back(join.get());
  ASSIGN_OR_RETURN(JailedProcess process, SpawnJailed(jail));
  slot->pid = process.pid;
  slot->pidfd = std::move(process.pidfd);
  slot->channel = std::move(channel.first);
  RETURN_IF_ERROR(slot->channel.SetNonBlocking());
  ASSIGN_OR_RETURN(slot->start_ticks, ReadStartTicks(slot->pid));
  return absl::OkStatus();
}

absl::Status WorkerSlots::SetLimits(WorkerSlot* slot, const CgroupLimits& limits) {
  if (slot->limits == limits) return absl::OkStatus();
  slot->limits.reset();
  ASSIGN_OR_RETURN(Cgroups* const groups, cgroups());
  RETURN_IF_ERROR(groups->SetLimits(slot->cgroup, limits));
  slot->limits = limits;
  return absl::OkStatus();
}

absl::StatusOr<std::string> WorkerSlots::RunToEnd(const std::string& argument) {
  ASSIGN_OR_RETURN(const Devices devices,
                   OpenDevices(options_.kvm_device, options_.userfaultfd_device));
  ASSIGN_OR_RETURN(const Fd null, OpenFile("/dev/null", O_RDWR));
  ASSIGN_OR_RETURN(const Fd executable, OpenFile(options_.worker.c_str(), O_PATH));
  ASSIGN_OR_RETURN(auto output, MakePipe());
  JailOptions jail;
  jail.executable = executable.get();
  jail.argv = {"drover-vmm", argument};
  jail.descriptors = {null.get(), output.second.get(), STDERR_FILENO, null.get()};
  devices.AddTo(&jail);
  jail.namespaces = options_.namespaces.flags;
  ASSIGN_OR_RETURN(jail.uid, uids_.Take());
  absl::StatusOr<JailedProcess> process = SpawnJailed(jail);
  uids_.Release(jail.uid);
  if (!process.ok()) return process.status();
  output.second.Reset();
  absl::StatusOr<std::string> text =
      ReadUntil(output.first.get(), std::chrono::steady_clock::now() + kProgramLimit);
  if (!text.ok()) KillProcess(process->pidfd.get()).IgnoreError();
  const absl::Status ended = ExitStatus(process->pidfd.get());
  if (text.ok() && !ended.ok()) return ended;
  return text;
}

absl::Status WorkerSlots::Kill(const WorkerSlot& slot) {
  absl::Status status;
  if (slot.pidfd.valid()) status = KillProcess(slot.pidfd.get());
  if (slot.cgroup.empty()) return status;
  ASSIGN_OR_RETURN(Cgroups* const groups, cgroups());
  const absl::Status group = groups->Kill(slot.cgroup);
  return status.ok() ? group : status;
}

void WorkerSlots::Destroy(WorkerSlot slot) {
  if (const absl::Status killed = Kill(slot); !killed.ok())
    Log(LogLevel::kWarning, "a worker's processes could not be killed",
        {{"pid", slot.pid}, {"cgroup", slot.cgroup}, {"error", killed.ToString()}});
  slot.channel.Close();
  const uint64_t id = next_dying_++;
  const int pidfd = slot.pidfd.get();
  dying_[id].slot = std::move(slot);
  if (pidfd < 0 || HasEnded(pidfd)) return Bury(id);
  const absl::Status watched = loop_->Watch(pidfd, EPOLLIN, [this, id](uint32_t) { Bury(id); });
  if (!watched.ok()) Bury(id);
}

void WorkerSlots::Bury(uint64_t id) {
  const auto it = dying_.find(id);
  if (it == dying_.end()) return;
  WorkerSlot& slot = it->second.slot;
  if (slot.pidfd.valid()) {
    loop_->Unwatch(slot.pidfd.get());
    ReapChild(slot.pidfd.get());
  }
  const absl::Status removed = RemoveCgroup(slot);
  if (absl::IsUnavailable(removed) && ++it->second.attempts < kMaxAttempts) {
    loop_->RunAfter(kRetry, [this, id] { Bury(id); });
    return;
  }
  if (!removed.ok())
    Log(LogLevel::kWarning, "a worker's cgroup remains",
        {{"cgroup", slot.cgroup}, {"error", removed.ToString()}});
  if (slot.uid != 0) uids_.Release(slot.uid);
  dying_.erase(it);
}

absl::Status WorkerSlots::RemoveCgroup(const WorkerSlot& slot) {
  if (slot.cgroup.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(Cgroups* const groups, cgroups());
  return groups->Remove(slot.cgroup);
}

void WorkerSlots::DestroyCgroupsExcept(const std::map<std::string, bool>& used) {
  const absl::StatusOr<Cgroups*> groups = cgroups();
  if (!groups.ok()) return;
  const absl::StatusOr<std::vector<std::string>> names = (*groups)->List();
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    if (!absl::StartsWith(name, options_.tag + "-") || used.contains(name)) continue;
    WorkerSlot slot;
    slot.cgroup = name;
    Destroy(std::move(slot));
  }
}

}  // namespace drover
