#include "agent/daemon/daemon.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/daemon/state_dir.h"
#include "agent/daemon/supervisor.h"
#include "agent/metrics/process_collector.h"
#include "agent/metrics/vm_collector.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"
#include "vmm/base/version.h"

namespace drover {
namespace {

constexpr std::chrono::seconds kLockPatience{5};  // for the helper of the agent before
constexpr std::chrono::seconds kCallsBound{10};   // for calls in progress at the end
constexpr std::chrono::seconds kExitBound{15};    // for all of the end

absl::Status CheckRoot() {
  if (geteuid() == 0) return absl::OkStatus();
  return WithReason(
      absl::PermissionDeniedError(absl::StrCat(
          "drover-agent must be started as root (it is uid ", geteuid(),
          "): its helper makes jails; the agent itself gives all privilege up once it runs")),
      "NOT_ROOT");
}

absl::Status CheckProgram(const char* flag, const std::string& path) {
  if (access(path.c_str(), X_OK) == 0) return absl::OkStatus();
  return Annotate(PosixStatus(errno, "access", path),
                  absl::StrCat("--", flag, " names no program that can be executed"));
}

void Notify(const std::string& message) {
  const absl::Status status = NotifySupervisor(message);
  if (!status.ok())
    Log(LogLevel::kWarning, "cannot notify the supervisor", {{"error", status.ToString()}});
}

}  // namespace

Daemon::Daemon(DaemonOptions options)
    : options_(std::move(options)), start_time_(clock_.UnixNanos()), metrics_(kVersion) {}

Daemon::~Daemon() = default;

absl::Status Daemon::Run() {
  RETURN_IF_ERROR(Prepare());
  RETURN_IF_ERROR(CatchSignals());
  RETURN_IF_ERROR(Listen());
  RETURN_IF_ERROR(AdoptVms());
  BeReady();
  const absl::Status end = AwaitEnd();
  ShutDown();
  return end;
}

HelperOptions Daemon::MakeHelperOptions() const {
  HelperOptions helper;
  helper.state_dir = options_.state_dir;
  helper.worker = options_.worker;
  helper.image_directories = options_.image_dirs;
  helper.uids = options_.worker_uids;
  helper.cgroup_parent = options_.cgroup_parent;
  helper.agent_gid = options_.user.gid;
  helper.spares = options_.spares;
  helper.lock_fd = lock_.get();
  return helper;
}

absl::Status Daemon::Prepare() {
  RETURN_IF_ERROR(CheckRoot());
  RETURN_IF_ERROR(CheckProgram("worker", options_.worker));
  RETURN_IF_ERROR(CheckProgram("helper", options_.helper));
  RETURN_IF_ERROR(PrepareStateDir(options_.state_dir, options_.user));
  ASSIGN_OR_RETURN(lock_, LockStateDir(options_.state_dir, kLockPatience));
  if (!options_.listen.empty()) RETURN_IF_ERROR(PrepareSocketDir(options_.listen, options_.user));
  ASSIGN_OR_RETURN(helper_, HelperProcess::Spawn(options_.helper, MakeHelperOptions()));
  RETURN_IF_ERROR(RaiseFileLimit());
  RETURN_IF_ERROR(DropPrivileges(options_.user));
  Log(LogLevel::kInfo, "privilege dropped",
      {{"uid", options_.user.uid}, {"gid", options_.user.gid}, {"helper_pid", helper_->pid()}});
  return CheckStateDirUsable(options_.state_dir);
}

absl::Status Daemon::CatchSignals() {
  signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return PosixStatus(errno, "sigprocmask", "");
  signals_.Reset(signalfd(-1, &set, SFD_CLOEXEC));
  return signals_.valid() ? absl::OkStatus() : PosixStatus(errno, "signalfd", "");
}

HostLimits Daemon::MakeHostLimits() const {
  HostLimits limits;
  limits.capabilities = capabilities_;
  limits.memory_mib = facts_.memory_mib;
  limits.reserved_mib = options_.reserve_memory_mib;
  limits.max_vms = options_.max_vms;
  return limits;
}

absl::Status Daemon::Listen() {
  ASSIGN_OR_RETURN(facts_, ReadHostFacts());
  ASSIGN_OR_RETURN(probe_, helper_->client().Probe());
  ASSIGN_OR_RETURN(capabilities_, UsableCapabilities(probe_, options_.withheld));
  for (const std::string& name : options_.withheld)
    Log(LogLevel::kInfo, "VMs do without a capability", {{"withheld", name}});
  if (!probe_.kvm_unusable.empty())
    Log(LogLevel::kWarning, "no VM can run on this host", {{"why", probe_.kvm_unusable}});
  for (const std::string& warning : probe_.warnings)
    Log(LogLevel::kWarning, "the host lacks something", {{"what", warning}});
  host_ = std::make_unique<HostInfo>(facts_, probe_,
                                     HostResources{.vcpus = facts_.cpus,
                                                   .memory_mib = MakeHostLimits().usable_mib(),
                                                   .vms = options_.max_vms},
                                     kVersion, start_time_, options_.withheld);
  ASSIGN_OR_RETURN(consoles_, ConsoleStreams::Create(&gate_));
  vm_service_ = std::make_unique<VmService>(&gate_, consoles_.get());
  host_service_ = std::make_unique<HostService>(&gate_, host_.get());
  ASSIGN_OR_RETURN(server_, GrpcServer::Start({.unix_path = options_.listen,
                                               .insecure_tcp_address = options_.insecure_listen},
                                              {vm_service_.get(), host_service_.get()}, &metrics_));
  return StartMetrics();
}

absl::Status Daemon::StartMetrics() {
  if (options_.metrics_listen.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(metrics_server_,
                   MetricsServer::Start(options_.metrics_listen,
                                        {metrics_.registry(), std::make_shared<VmCollector>(&gate_),
                                         std::make_shared<ProcessCollector>()}));
  return absl::OkStatus();
}

absl::Status Daemon::AdoptVms() {
  Notify("STATUS=adopting VMs");
  ASSIGN_OR_RETURN(registry_, SqliteRegistry::Open(options_.state_dir + "/registry.db"));
  ASSIGN_OR_RETURN(vms_, VmManager::Create({.registry = registry_.get(),
                                            .helper = &helper_->client(),
                                            .clock = &clock_,
                                            .observer = &metrics_,
                                            .workers_directory = options_.state_dir + "/workers",
                                            .host = MakeHostLimits(),
                                            .withheld = options_.withheld}));
  return vms_->Adopt();
}

void Daemon::BeReady() {
  gate_.Open(vms_.get());
  metrics_.SetReady(true);
  server_->SetServing(true);
  const size_t count = vms_->Snapshot().size();
  Log(LogLevel::kInfo, "ready",
      {{"version", kVersion},
       {"state_dir", options_.state_dir},
       {"listen", options_.listen},
       {"tcp_port", server_->tcp_port()},
       {"metrics_port", metrics_server_ == nullptr ? 0 : metrics_server_->port()},
       {"vms", static_cast<long long>(count)}});
  Notify(absl::StrCat("READY=1\nSTATUS=serving; ", count, " VMs when it started"));
}

absl::Status Daemon::AwaitEnd() {
  struct pollfd polls[] = {{signals_.get(), POLLIN, 0}, {helper_->pidfd(), POLLIN, 0}};
  while (poll(polls, std::size(polls), -1) < 0)
    if (errno != EINTR) return PosixStatus(errno, "poll", "signals");
  if (polls[0].revents != 0) {
    Log(LogLevel::kInfo, "ending on a signal; VMs run on");
    return absl::OkStatus();
  }
  return WithReason(
      absl::UnavailableError("the helper has ended, and without it no VM can start or be cleaned "
                             "up; VMs run on: start the agent again"),
      "HELPER_GONE");
}

// A call that waits for a guest may last an hour, and gRPC waits for its handler whatever the
// deadline; ending in the middle of one is what adoption is made for.
void Daemon::ShutDown() {
  Notify("STOPPING=1");
  metrics_.SetReady(false);
  server_->SetServing(false);
  gate_.Close();
  consoles_->Shutdown();
  std::packaged_task<void()> end([this] { server_->Shutdown(kCallsBound); });
  std::future<void> ended = end.get_future();
  std::thread thread(std::move(end));
  if (ended.wait_for(kExitBound) == std::future_status::ready) {
    thread.join();
    metrics_server_.reset();
    return;
  }
  Log(LogLevel::kWarning, "calls are still in progress; ending without them");
  const bool helper_lives = kill(helper_->pid(), 0) == 0 || errno == EPERM;
  _exit(helper_lives ? 0 : 1);
}

}  // namespace drover
