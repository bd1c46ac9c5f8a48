#include "agent/helper/run_helper.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <memory>

#include "absl/strings/str_cat.h"
#include "agent/helper/helper_options.h"
#include "agent/helper/helper_server.h"
#include "agent/helper/instance_store.h"
#include "agent/helper/probe.h"
#include "agent/helper/spare_pool.h"
#include "agent/helper/worker_slots.h"
#include "agent/helper/workers.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"
#include "vmm/base/status_proto.h"

namespace drover {
namespace {

constexpr std::chrono::seconds kFarewell(2);  // for the spares' end
constexpr int kParentDied = SIGUSR1;

// Only the agent's end ends the helper; a signal meant for the agent's process group does not.
absl::StatusOr<Fd> SetUpSignals() {
  for (const int signal_number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE})
    signal(signal_number, SIG_IGN);
  signal(SIGCHLD, SIG_DFL);  // or children would vanish without being waited for
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, kParentDied);
  sigprocmask(SIG_SETMASK, &set, nullptr);
  Fd signals(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals.valid()) return PosixStatus(errno, "signalfd", "");
  if (prctl(PR_SET_PDEATHSIG, kParentDied) != 0) return PosixStatus(errno, "PR_SET_PDEATHSIG", "");
  return signals;
}

absl::Status KeepFromChildren(int fd) {
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
    return PosixStatus(errno, "F_SETFD", absl::StrCat("descriptor ", fd));
  return absl::OkStatus();
}

// The parts of a running helper, in the order of their making.
class HelperMain {
 public:
  explicit HelperMain(HelperOptions options) : options_(std::move(options)) {}

  absl::Status SetUp(UnixChannel* channel) {
    if (options_.lock_fd >= 0) RETURN_IF_ERROR(KeepFromChildren(options_.lock_fd));
    ASSIGN_OR_RETURN(signals_, SetUpSignals());
    ASSIGN_OR_RETURN(loop_, EventLoop::Create());
    ASSIGN_OR_RETURN(ImageDirectories images, ImageDirectories::Create(options_.image_directories));
    images_ = std::make_unique<ImageDirectories>(std::move(images));
    ASSIGN_OR_RETURN(store_, InstanceStore::Open(options_.state_dir, options_.agent_gid));
    ASSIGN_OR_RETURN(NamespaceSet namespaces, ProbeNamespaces());
    slots_ = std::make_unique<WorkerSlots>(
        loop_.get(), WorkerSlots::Options{.worker = options_.worker,
                                          .kvm_device = options_.kvm_device,
                                          .userfaultfd_device = options_.userfaultfd_device,
                                          .cgroup_parent = options_.cgroup_parent,
                                          .cgroup_root = options_.cgroup_root,
                                          .tag = store_->tag(),
                                          .uids = options_.uids,
                                          .namespaces = std::move(namespaces)});
    spares_ = std::make_unique<SparePool>(loop_.get(), slots_.get(), store_.get(), options_.spares);
    ASSIGN_OR_RETURN(workers_, Workers::Create({.loop = loop_.get(),
                                                .clock = &clock_,
                                                .store = store_.get(),
                                                .slots = slots_.get(),
                                                .spares = spares_.get(),
                                                .images = images_.get()}));
    return StartServer(channel);
  }

  void Run() {
    spares_->Start();
    loop_->Run();
    spares_->Drain();
    const auto deadline = EventLoop::Clock::now() + kFarewell;
    while (slots_->dying() > 0 && EventLoop::Clock::now() < deadline)
      loop_->RunOnce(std::chrono::milliseconds(50));
  }

 private:
  absl::Status StartServer(UnixChannel* channel) {
    server_ = std::make_unique<HelperServer>(loop_.get(), std::move(*channel), workers_.get(),
                                             [this] { return ProbeHost(options_, slots_.get()); });
    RETURN_IF_ERROR(loop_->Watch(signals_.get(), EPOLLIN, [this](uint32_t) { loop_->Stop(); }));
    return server_->Start();
  }

  const HelperOptions options_;
  const SystemClock clock_;
  Fd signals_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<ImageDirectories> images_;
  std::unique_ptr<InstanceStore> store_;
  std::unique_ptr<WorkerSlots> slots_;
  std::unique_ptr<SparePool> spares_;
  std::unique_ptr<Workers> workers_;
  std::unique_ptr<HelperServer> server_;
};

int Fail(const absl::Status& status, UnixChannel* channel) {
  Log(LogLevel::kError, "the helper cannot start", {{"error", status.ToString()}});
  worker::v1::HelperResponse response;
  *response.mutable_status() = StatusToProto(status);
  if (channel->valid()) channel->Send(response.SerializeAsString()).IgnoreError();
  return 1;
}

}  // namespace

int RunHelper(int argc, char** argv) {
  SetLogComponent("drover-helper");
  umask(027);
  // A message's buffer is not to be mapped and faulted in anew each time.
  mallopt(M_MMAP_THRESHOLD, 4 << 20);
  mallopt(M_TRIM_THRESHOLD, 4 << 20);
  UnixChannel channel{Fd(kHelperChannelFd)};
  if (const absl::Status status = KeepFromChildren(kHelperChannelFd); !status.ok()) {
    (void)channel.Release().Release();
    Log(LogLevel::kError, "drover-helper is started by drover-agent, not by hand");
    return 2;
  }
  absl::StatusOr<HelperOptions> options =
      ParseHelperArguments(std::vector<std::string>(argv + 1, argv + argc));
  if (!options.ok()) return Fail(options.status(), &channel);
  HelperMain helper(*std::move(options));
  if (const absl::Status status = helper.SetUp(&channel); !status.ok())
    return Fail(status, &channel);
  helper.Run();
  return 0;
}

}  // namespace drover
