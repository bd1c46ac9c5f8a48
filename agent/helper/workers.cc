#include "agent/helper/workers.h"

#include <sys/epoll.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "agent/jail/process_identity.h"
#include "proto/worker/v1/helper.pb.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr char kKernelField[] = "vm.spec.boot.kernel_path";
constexpr char kInitrdField[] = "vm.spec.boot.initrd_path";
constexpr uint32_t kMaxVcpus = 4096;              // far beyond any hypervisor's own limit
constexpr uint64_t kMaxMemoryBytes = 1ull << 46;  // 64 TiB
constexpr int64_t kNanosPerSecond = 1000000000;

absl::Status CheckSizes(const WorkerLaunchOptions& options) {
  if (options.vcpus == 0 || options.vcpus > kMaxVcpus)
    return WithField(absl::InvalidArgumentError(
                         absl::StrCat(options.vcpus, " vCPUs: 1 to ", kMaxVcpus, " are possible")),
                     "vm.spec.vcpus");
  if (options.memory_bytes == 0 || options.memory_bytes > kMaxMemoryBytes)
    return WithField(
        absl::InvalidArgumentError(absl::StrCat(options.memory_bytes, " bytes of memory: 1 to ",
                                                kMaxMemoryBytes, " are possible")),
        "vm.spec.memory_mib");
  return absl::OkStatus();
}

absl::Status NoSuchInstance(const std::string& instance_id) {
  return WithReason(absl::NotFoundError(absl::StrCat("there is no instance ", instance_id)),
                    "NO_SUCH_INSTANCE");
}

absl::Status InstanceExists(const std::string& instance_id) {
  return WithReason(absl::AlreadyExistsError(absl::StrCat("the instance ", instance_id, " exists")),
                    "INSTANCE_EXISTS");
}

bool IsAlive(const WorkerSlot& slot) { return slot.pidfd.valid() && !HasEnded(slot.pidfd.get()); }

absl::StatusOr<LaunchedWorker> View(const WorkerIdentity& identity, const WorkerSlot& slot) {
  ASSIGN_OR_RETURN(Fd pidfd, slot.pidfd.Duplicate());
  return LaunchedWorker{identity, std::move(pidfd)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Workers>> Workers::Create(const Parts& parts) {
  ASSIGN_OR_RETURN(std::string boot_id, ReadBootId());
  std::unique_ptr<Workers> workers(new Workers(parts, std::move(boot_id)));
  RETURN_IF_ERROR(workers->Recover());
  return workers;
}

Workers::~Workers() {
  for (const auto& [id, worker] : workers_)
    if (worker.slot.pidfd.valid()) parts_.loop->Unwatch(worker.slot.pidfd.get());
}

absl::Status Workers::Recover() {
  ASSIGN_OR_RETURN(const std::vector<std::string> ids, parts_.store->List());
  std::map<std::string, bool> cgroups;
  for (const std::string& id : ids) {
    Worker worker = Recall(id);
    cgroups[worker.slot.cgroup] = true;
    if (worker.slot.uid != 0) parts_.slots->Reserve(worker.slot.uid);
    workers_[id] = std::move(worker);
  }
  parts_.slots->DestroyCgroupsExcept(cgroups);
  return absl::OkStatus();
}

// What the files of an earlier helper tell; without a pidfd where the worker has ended.
Workers::Worker Workers::Recall(const std::string& instance_id) const {
  Worker worker;
  worker.identity.instance_id = instance_id;
  absl::StatusOr<WorkerIdentity> identity = parts_.store->ReadIdentity(instance_id);
  if (!identity.ok()) {
    Log(LogLevel::kInfo, "an instance without identity: its launch was not finished",
        {{"instance", instance_id}, {"error", identity.status().ToString()}});
    return worker;
  }
  worker.identity = *std::move(identity);
  worker.slot.pid = worker.identity.pid;
  worker.slot.start_ticks = worker.identity.start_ticks;
  worker.slot.uid = worker.identity.uid;
  const absl::StatusOr<Cgroups*> cgroups = parts_.slots->cgroups();
  const std::string name = absl::StrCat(parts_.store->tag(), "-", worker.identity.uid);
  if (cgroups.ok() && (*cgroups)->PathOf(name) == worker.identity.cgroup) worker.slot.cgroup = name;
  if (worker.identity.boot_id != boot_id_) return worker;
  absl::StatusOr<Fd> pidfd = OpenProcess(worker.identity.pid, worker.identity.start_ticks);
  if (pidfd.ok()) worker.slot.pidfd = *std::move(pidfd);
  return worker;
}

absl::Status Workers::CheckFile(const std::string& path, const std::string& field) const {
  return WithField(parts_.images->Open(path).status(), field);
}

absl::StatusOr<Workers::Files> Workers::OpenFiles(const WorkerLaunchOptions& options) const {
  Files files;
  absl::StatusOr<Fd> kernel = parts_.images->Open(options.kernel_path);
  if (!kernel.ok()) return WithField(kernel.status(), kKernelField);
  files.kernel = *std::move(kernel);
  if (options.initrd_path.empty()) return files;
  absl::StatusOr<Fd> initrd = parts_.images->Open(options.initrd_path);
  if (!initrd.ok()) return WithField(initrd.status(), kInitrdField);
  files.initrd = *std::move(initrd);
  return files;
}

absl::StatusOr<LaunchedWorker> Workers::Launch(const WorkerLaunchOptions& options) {
  RETURN_IF_ERROR(InstanceStore::CheckId(options.instance_id));
  RETURN_IF_ERROR(CheckSizes(options));
  if (workers_.contains(options.instance_id)) return InstanceExists(options.instance_id);
  ASSIGN_OR_RETURN(const Files files, OpenFiles(options));
  ASSIGN_OR_RETURN(Worker worker, Assign(options, files));
  absl::StatusOr<LaunchedWorker> launched = View(worker.identity, worker.slot);
  if (!launched.ok()) {
    parts_.slots->Destroy(std::move(worker.slot));
    parts_.store->Remove(options.instance_id).IgnoreError();
    return launched;
  }
  Keep(std::move(worker));
  return launched;
}

// Spares may have died unnoticed; the worker made on the spot is the last try.
absl::StatusOr<Workers::Worker> Workers::Assign(const WorkerLaunchOptions& options,
                                                const Files& files) {
  for (;;) {
    std::optional<WorkerSlot> spare = parts_.spares->Take();
    const bool last = !spare.has_value();
    if (last) {
      ASSIGN_OR_RETURN(spare, parts_.slots->Make());
    }
    absl::StatusOr<Worker> worker = AssignSlot(options, files, &*spare);
    if (worker.ok()) return worker;
    parts_.slots->Destroy(*std::move(spare));
    if (last || !absl::IsUnavailable(worker.status())) return worker;
  }
}

// The identity is on record before the worker hears of its instance. An error leaves the slot.
absl::StatusOr<Workers::Worker> Workers::AssignSlot(const WorkerLaunchOptions& options,
                                                    const Files& files, WorkerSlot* slot) {
  ASSIGN_OR_RETURN(Cgroups* const cgroups, parts_.slots->cgroups());
  Worker worker;
  worker.identity = {.instance_id = options.instance_id,
                     .pid = slot->pid,
                     .start_ticks = slot->start_ticks,
                     .boot_id = boot_id_,
                     .uid = slot->uid,
                     .cgroup = cgroups->PathOf(slot->cgroup),
                     .launch_time = parts_.clock->UnixNanos() / kNanosPerSecond};
  ASSIGN_OR_RETURN(const InstanceFiles instance, parts_.store->Create(worker.identity));
  const absl::Status handed = HandOver(options, files, instance, slot);
  if (!handed.ok()) {
    parts_.store->Remove(options.instance_id).IgnoreError();
    return handed;
  }
  slot->channel.Close();
  worker.slot = std::move(*slot);
  return worker;
}

// The worker gets ready while its limits are set: it does nothing for a guest before the agent
// connects, and the agent waits for the answer to the launch.
absl::Status Workers::HandOver(const WorkerLaunchOptions& options, const Files& files,
                               const InstanceFiles& instance, WorkerSlot* slot) const {
  RETURN_IF_ERROR(
      Annotate(SendLaunch(options, files, instance, slot), "the worker ended at its launch"));
  const CgroupLimits limits = CgroupLimits::ForGuest(options.vcpus, options.memory_bytes);
  parts_.spares->Expect(limits);
  return Annotate(parts_.slots->SetLimits(slot, limits), "the worker's limits");
}

absl::Status Workers::SendLaunch(const WorkerLaunchOptions& options, const Files& files,
                                 const InstanceFiles& instance, WorkerSlot* slot) const {
  worker::v1::WorkerLaunch launch;
  launch.set_instance_id(options.instance_id);
  launch.set_has_initrd(files.initrd.valid());
  std::vector<int> fds = {instance.control.get(), instance.last_words.get(), instance.log.get(),
                          files.kernel.get()};
  if (files.initrd.valid()) fds.push_back(files.initrd.get());
  return slot->channel.Send(launch.SerializeAsString(), fds);
}

void Workers::Keep(Worker worker) {
  const int pidfd = worker.slot.pidfd.get();
  const std::string id = worker.identity.instance_id;
  const absl::Status watched = parts_.loop->Watch(pidfd, EPOLLIN, [this, id, pidfd](uint32_t) {
    Collect(id);
    parts_.loop->Unwatch(pidfd);
  });
  if (!watched.ok())
    Log(LogLevel::kWarning, "a worker is not watched", {{"error", watched.ToString()}});
  workers_[id] = std::move(worker);
}

// The zombie of a worker that has ended, and with it how it ended.
void Workers::Collect(const std::string& instance_id) {
  const auto it = workers_.find(instance_id);
  if (it == workers_.end() || !it->second.slot.pidfd.valid() || it->second.end.has_value()) return;
  it->second.end = ReapChild(it->second.slot.pidfd.get());
}

absl::StatusOr<LaunchedWorker> Workers::Adopt(const std::string& instance_id) const {
  const auto it = workers_.find(instance_id);
  if (it == workers_.end()) return NoSuchInstance(instance_id);
  if (!IsAlive(it->second.slot))
    return WithReason(absl::NotFoundError(absl::StrCat("worker ", instance_id, " has ended")),
                      "WORKER_GONE");
  return View(it->second.identity, it->second.slot);
}

absl::StatusOr<std::string> Workers::LastWords(const std::string& instance_id) const {
  return parts_.store->ReadLastWords(instance_id);
}

absl::Status Workers::Kill(const std::string& instance_id) {
  const auto it = workers_.find(instance_id);
  if (it == workers_.end() || !IsAlive(it->second.slot)) return absl::OkStatus();
  return parts_.slots->Kill(it->second.slot);
}

absl::StatusOr<GoneWorker> Workers::Examine(const std::string& instance_id) {
  const auto it = workers_.find(instance_id);
  if (it == workers_.end()) return NoSuchInstance(instance_id);
  if (IsAlive(it->second.slot))
    return WithReason(
        absl::FailedPreconditionError(absl::StrCat("worker ", instance_id, " is alive; kill it")),
        "WORKER_ALIVE");
  Collect(instance_id);
  return GoneWorker{LastWords(instance_id).value_or(""), it->second.end};
}

absl::StatusOr<GoneWorker> Workers::Reap(const std::string& instance_id) {
  ASSIGN_OR_RETURN(GoneWorker gone, Examine(instance_id));
  RETURN_IF_ERROR(parts_.store->Remove(instance_id));
  WorkerSlot slot = std::move(workers_.at(instance_id).slot);
  workers_.erase(instance_id);
  if (slot.pidfd.valid()) parts_.loop->Unwatch(slot.pidfd.get());
  parts_.slots->Destroy(std::move(slot));
  return gone;
}

std::vector<std::string> Workers::List() const {
  std::vector<std::string> ids;
  for (const auto& [id, worker] : workers_) ids.push_back(id);
  return ids;
}

}  // namespace drover
