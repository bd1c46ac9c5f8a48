#include "agent/helper/fake_helper.h"

#include <sys/eventfd.h>

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

absl::Status NoSuchInstance(const std::string& instance_id) {
  return WithReason(absl::NotFoundError(absl::StrCat("no worker has the id ", instance_id)),
                    "NO_SUCH_INSTANCE");
}

void RemoveTree(const std::string& directory) {
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
}

}  // namespace

void FakeHelper::SetOnLaunch(OnLaunch on_launch) {
  MutexLock lock(&mutex_);
  on_launch_ = std::move(on_launch);
}

void FakeHelper::SetOnKill(OnKill on_kill) {
  MutexLock lock(&mutex_);
  on_kill_ = std::move(on_kill);
}

void FakeHelper::SetError(const std::string& method, absl::Status error) {
  MutexLock lock(&mutex_);
  errors_[method] = std::move(error);
}

void FakeHelper::SetFileError(const std::string& path, absl::Status error) {
  MutexLock lock(&mutex_);
  file_errors_[path] = std::move(error);
}

void FakeHelper::SetProbe(HelperProbe probe) {
  MutexLock lock(&mutex_);
  probe_ = std::move(probe);
}

void FakeHelper::SetGone(bool gone) {
  MutexLock lock(&mutex_);
  gone_ = gone;
}

void FakeHelper::EndWorker(const std::string& instance_id, const std::string& last_words,
                           std::optional<ProcessEnd> end) {
  MutexLock lock(&mutex_);
  const auto it = workers_.find(instance_id);
  if (it == workers_.end() || !it->second.alive) return;
  it->second.alive = false;
  it->second.gone = {last_words, end};
  eventfd_write(it->second.ended.get(), 1);
}

absl::Status FakeHelper::AddWorker(const std::string& instance_id) {
  return Add(instance_id).status();
}

std::vector<std::string> FakeHelper::calls() const {
  MutexLock lock(&mutex_);
  return calls_;
}

std::set<std::string> FakeHelper::living() const {
  MutexLock lock(&mutex_);
  std::set<std::string> ids;
  for (const auto& [id, worker] : workers_)
    if (worker.alive) ids.insert(id);
  return ids;
}

std::set<std::string> FakeHelper::instances() const {
  MutexLock lock(&mutex_);
  std::set<std::string> ids;
  for (const auto& [id, worker] : workers_) ids.insert(id);
  return ids;
}

std::string FakeHelper::DirectoryOf(const std::string& instance_id) const {
  return absl::StrCat(state_dir_, "/workers/", instance_id);
}

absl::Status FakeHelper::Begin(const std::string& method, const std::string& argument) {
  MutexLock lock(&mutex_);
  calls_.push_back(argument.empty() ? method : absl::StrCat(method, " ", argument));
  if (gone_) return WithReason(absl::UnavailableError("the helper is gone"), "HELPER_GONE");
  const auto it = errors_.find(method);
  return it == errors_.end() ? absl::OkStatus() : it->second;
}

absl::Status FakeHelper::FileError(const std::string& path, const std::string& field) const {
  MutexLock lock(&mutex_);
  const auto it = file_errors_.find(path);
  return it == file_errors_.end() ? absl::OkStatus() : WithField(it->second, field);
}

absl::StatusOr<LaunchedWorker> FakeHelper::View(const Worker& worker) {
  ASSIGN_OR_RETURN(Fd pidfd, worker.ended.Duplicate());
  return LaunchedWorker{worker.identity, std::move(pidfd)};
}

absl::StatusOr<LaunchedWorker> FakeHelper::Add(const std::string& instance_id) {
  std::error_code error;
  std::filesystem::create_directories(DirectoryOf(instance_id), error);
  if (error) return PosixStatus(error.value(), "mkdir", DirectoryOf(instance_id));
  Worker worker;
  ASSIGN_OR_RETURN(worker.ended, MakeEventFd());
  MutexLock lock(&mutex_);
  worker.identity = {.instance_id = instance_id,
                     .pid = static_cast<int32_t>(1000000 + workers_.size()),
                     .start_ticks = 1,
                     .boot_id = "fake",
                     .uid = static_cast<uint32_t>(2000000000 + workers_.size()),
                     .cgroup = absl::StrCat("/drover/", instance_id),
                     .launch_time = 1700000000};
  const auto [it, inserted] = workers_.try_emplace(instance_id, std::move(worker));
  if (!inserted) return absl::AlreadyExistsError(absl::StrCat("instance ", instance_id, " exists"));
  return View(it->second);
}

absl::Status FakeHelper::CheckFile(const std::string& path, const std::string& field) {
  RETURN_IF_ERROR(Begin("CheckFile", path));
  return FileError(path, field);
}

absl::StatusOr<LaunchedWorker> FakeHelper::Launch(const WorkerLaunchOptions& options) {
  RETURN_IF_ERROR(Begin("Launch", options.instance_id));
  RETURN_IF_ERROR(FileError(options.kernel_path, "vm.spec.boot.kernel_path"));
  RETURN_IF_ERROR(FileError(options.initrd_path, "vm.spec.boot.initrd_path"));
  ASSIGN_OR_RETURN(LaunchedWorker launched, Add(options.instance_id));
  OnLaunch on_launch;
  {
    MutexLock lock(&mutex_);
    on_launch = on_launch_;
  }
  const absl::Status status =
      on_launch ? on_launch(options, DirectoryOf(options.instance_id)) : absl::OkStatus();
  if (status.ok()) return launched;
  RemoveTree(DirectoryOf(options.instance_id));
  MutexLock lock(&mutex_);
  workers_.erase(options.instance_id);
  return status;
}

absl::StatusOr<LaunchedWorker> FakeHelper::Adopt(const std::string& instance_id) {
  RETURN_IF_ERROR(Begin("Adopt", instance_id));
  MutexLock lock(&mutex_);
  const auto it = workers_.find(instance_id);
  if (it == workers_.end()) return NoSuchInstance(instance_id);
  if (!it->second.alive)
    return WithReason(absl::NotFoundError(absl::StrCat("worker ", instance_id, " has ended")),
                      "WORKER_GONE");
  return View(it->second);
}

absl::Status FakeHelper::Kill(const std::string& instance_id) {
  RETURN_IF_ERROR(Begin("Kill", instance_id));
  OnKill on_kill;
  {
    MutexLock lock(&mutex_);
    if (workers_.contains(instance_id)) on_kill = on_kill_;
  }
  if (on_kill) on_kill(instance_id);
  EndWorker(instance_id, "");
  return absl::OkStatus();
}

absl::StatusOr<FakeHelper::Worker*> FakeHelper::FindDead(const std::string& instance_id) {
  const auto it = workers_.find(instance_id);
  if (it == workers_.end()) return NoSuchInstance(instance_id);
  if (it->second.alive)
    return WithReason(
        absl::FailedPreconditionError(absl::StrCat("worker ", instance_id, " is alive")),
        "WORKER_ALIVE");
  return &it->second;
}

absl::StatusOr<GoneWorker> FakeHelper::Examine(const std::string& instance_id) {
  RETURN_IF_ERROR(Begin("Examine", instance_id));
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const Worker* worker, FindDead(instance_id));
  return worker->gone;
}

absl::StatusOr<GoneWorker> FakeHelper::Reap(const std::string& instance_id) {
  RETURN_IF_ERROR(Begin("Reap", instance_id));
  GoneWorker gone;
  {
    MutexLock lock(&mutex_);
    ASSIGN_OR_RETURN(const Worker* worker, FindDead(instance_id));
    gone = worker->gone;
    workers_.erase(instance_id);
  }
  RemoveTree(DirectoryOf(instance_id));
  return gone;
}

absl::StatusOr<HelperProbe> FakeHelper::Probe() {
  RETURN_IF_ERROR(Begin("Probe", ""));
  MutexLock lock(&mutex_);
  return probe_;
}

absl::StatusOr<std::vector<std::string>> FakeHelper::ListWorkers() {
  RETURN_IF_ERROR(Begin("ListWorkers", ""));
  MutexLock lock(&mutex_);
  std::vector<std::string> ids;
  for (const auto& [id, worker] : workers_) ids.push_back(id);
  return ids;
}

}  // namespace drover
