#include "agent/vms/fake_host.h"

#include <stdlib.h>

#include <filesystem>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

std::string MakeStateDir() {
  char name[] = "/tmp/drover-vms-XXXXXX";
  DROVER_CHECK(mkdtemp(name) != nullptr);
  return name;
}

}  // namespace

class FakeHost::CrashingRegistry : public Registry {
 public:
  explicit CrashingRegistry(FakeHost* host) : host_(host) {}
  absl::StatusOr<std::vector<VmRecord>> Load() override { return host_->registry.Load(); }
  absl::Status Put(const VmRecord& record, Durability durability) override {
    RETURN_IF_ERROR(host_->Step());
    return host_->registry.Put(record, durability);
  }
  absl::Status Delete(const std::string& id) override {
    RETURN_IF_ERROR(host_->Step());
    return host_->registry.Delete(id);
  }

 private:
  FakeHost* const host_;
};

class FakeHost::CrashingHelper : public Helper {
 public:
  explicit CrashingHelper(FakeHost* host) : host_(host) {}
  absl::Status CheckFile(const std::string& path, const std::string& field) override {
    RETURN_IF_ERROR(host_->Step());
    return host_->helper.CheckFile(path, field);
  }
  absl::StatusOr<LaunchedWorker> Launch(const WorkerLaunchOptions& options) override {
    RETURN_IF_ERROR(host_->Step());
    return host_->helper.Launch(options);
  }
  absl::StatusOr<LaunchedWorker> Adopt(const std::string& instance_id) override {
    RETURN_IF_ERROR(host_->Step());
    return host_->helper.Adopt(instance_id);
  }
  absl::Status Kill(const std::string& instance_id) override {
    RETURN_IF_ERROR(host_->Step());
    return host_->helper.Kill(instance_id);
  }
  absl::StatusOr<GoneWorker> Examine(const std::string& instance_id) override {
    RETURN_IF_ERROR(host_->Step());
    return host_->helper.Examine(instance_id);
  }
  absl::StatusOr<GoneWorker> Reap(const std::string& instance_id) override {
    RETURN_IF_ERROR(host_->Step());
    return host_->helper.Reap(instance_id);
  }
  absl::StatusOr<HelperProbe> Probe() override { return host_->helper.Probe(); }
  absl::StatusOr<std::vector<std::string>> ListWorkers() override {
    RETURN_IF_ERROR(host_->Step());
    return host_->helper.ListWorkers();
  }

 private:
  FakeHost* const host_;
};

FakeHost::FakeHost()
    : helper(MakeStateDir()),
      state_dir_(std::filesystem::path(helper.DirectoryOf("x")).parent_path().parent_path()),
      crashing_registry_(std::make_unique<CrashingRegistry>(this)),
      crashing_helper_(std::make_unique<CrashingHelper>(this)) {
  limits.bring_up = limits.call = limits.reset = limits.join = std::chrono::seconds(30);
  limits.stop_call = limits.stop_exit = limits.kill_exit = std::chrono::seconds(30);
  limits.operation_wait = std::chrono::seconds(30);
  limits.first_retry = limits.last_retry = std::chrono::milliseconds(20);
  helper.SetOnLaunch([this](const WorkerLaunchOptions& options, const std::string& directory) {
    return OnLaunch(options, directory);
  });
  helper.SetOnKill([this](const std::string& id) {
    if (FakeWorker* worker = WorkerOf(id)) worker->Vanish();
  });
}

FakeHost::~FakeHost() {
  agent_.reset();
  helper.SetOnKill(nullptr);
  std::map<std::string, std::unique_ptr<FakeWorker>> workers;
  {
    MutexLock lock(&mutex_);
    workers.swap(workers_);
  }
  workers.clear();
  std::filesystem::remove_all(state_dir_);
}

absl::Status FakeHost::OnLaunch(const WorkerLaunchOptions& options, const std::string& directory) {
  const std::string id = options.instance_id;
  ASSIGN_OR_RETURN(auto worker, FakeWorker::Serve(id, directory + "/control.sock",
                                                  [this, id](const std::string& last_words) {
                                                    helper.EndWorker(id, last_words);
                                                  }));
  if (on_new_worker) on_new_worker(worker.get());
  if (crashed_) worker->Disconnect(true);
  MutexLock lock(&mutex_);
  workers_[id] = std::move(worker);
  last_ = id;
  return absl::OkStatus();
}

// A killed agent's descriptors are closed with it.
absl::Status FakeHost::Step() {
  const int step = ++steps_;
  if (crash_at_ == 0 || step < crash_at_) return absl::OkStatus();
  crashed_ = true;
  SetRefusing(true);
  return absl::UnavailableError("this agent is dead");
}

void FakeHost::SetRefusing(bool refuse) {
  MutexLock lock(&mutex_);
  for (const auto& [id, worker] : workers_) worker->Disconnect(refuse);
}

void FakeHost::CrashAgentAt(int step) {
  steps_ = 0;
  crash_at_ = step;
}

VmManager& FakeHost::StartAgent() {
  agent_.reset();
  if (crashed_.exchange(false)) SetRefusing(false);
  CrashAgentAt(std::exchange(crash_next_at_, 0));
  VmManager::Options options;
  options.registry = crashing_registry_.get();
  options.helper = crashing_helper_.get();
  options.clock = &clock_;
  options.observer = &stats;
  options.workers_directory = state_dir_ + "/workers";
  options.host = host;
  options.withheld = withheld;
  options.limits = limits;
  auto agent = VmManager::Create(options);
  DROVER_CHECK(agent.ok());
  agent_ = *std::move(agent);
  const absl::Status adopted = agent_->Adopt();
  DROVER_CHECK(adopted.ok() || crashed_);
  return *agent_;
}

FakeWorker* FakeHost::worker() {
  MutexLock lock(&mutex_);
  return workers_.at(last_).get();
}

FakeWorker* FakeHost::WorkerOf(const std::string& instance_id) {
  MutexLock lock(&mutex_);
  const auto it = workers_.find(instance_id);
  return it == workers_.end() ? nullptr : it->second.get();
}

int FakeHost::Launches() {
  MutexLock lock(&mutex_);
  return static_cast<int>(workers_.size());
}

BackendCapabilities FakeHost::Capabilities() {
  std::map<std::string, std::string> fields = BackendCapabilities().ToMap();
  for (auto& [name, value] : fields) value = value == "false" ? "true" : "46";
  fields["max_vcpus"] = "8";
  return BackendCapabilities::FromMap(fields);
}

CreateVmParams FakeHost::Params(const std::string& id) {
  CreateVmParams params;
  params.id = id;
  params.spec = {2, 64, "/images/kernel", "/images/initrd", "quiet"};
  params.labels = {{"k", "v"}};
  return params;
}

VmView FakeHost::Run(const std::string& id) {
  DROVER_CHECK(agent_->Create(Params(id)).ok());
  const auto view = agent_->Start(id, "");
  DROVER_CHECK(view.ok());
  return *view;
}

VmView FakeHost::Await(const std::string& id, VmState state) {
  Eventually([&] {
    const auto view = agent_->Get(id);
    return view.ok() && view->state == state;
  });
  const auto view = agent_->Get(id);
  return view.ok() ? *view : VmView();
}

bool FakeHost::Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 15000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return false;
}

}  // namespace drover
