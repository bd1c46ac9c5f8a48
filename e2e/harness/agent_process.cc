#include "e2e/harness/agent_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "vmm/base/fd.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::seconds(60);

std::string UniqueName() {
  static int count = 0;
  return absl::StrCat("dt", getpid(), "-", ++count);
}

bool Serving(grpc::Channel& channel) {
  const auto stub = grpc::health::v1::Health::NewStub(
      std::shared_ptr<grpc::ChannelInterface>(&channel, [](grpc::ChannelInterface*) {}));
  grpc::ClientContext context;
  context.set_wait_for_ready(true);  // and polls meanwhile: an idle client notices nothing for 5 s
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(2));
  grpc::health::v1::HealthCheckResponse response;
  return stub->Check(&context, {}, &response).ok() &&
         response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
}

pid_t Spawn(const std::vector<std::string>& words, const std::string& log) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = fork();
  if (pid != 0) return pid;
  const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  dup2(fd, STDOUT_FILENO);
  dup2(fd, STDERR_FILENO);
  execv(argv[0], argv.data());
  _exit(127);
}

// The status that waitpid gave, as a shell tells it.
int ExitCode(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

AgentHome::AgentHome() {
  root_ = absl::StrCat("/tmp/", UniqueName());
  fs::remove_all(root_);
  fs::create_directories(image_dir());
}

AgentHome::~AgentHome() {
  std::error_code ignored;
  fs::remove_all(root_, ignored);
}

std::string AgentHome::cgroup_parent() const {
  return absl::StrCat("drover-", fs::path(root_).filename().string());
}

std::string AgentHome::AddImage(const std::string& from, const std::string& name) const {
  const std::string to = absl::StrCat(image_dir(), "/", name);
  fs::copy_file(from, to, fs::copy_options::overwrite_existing);
  chmod(to.c_str(), 0644);
  return to;
}

std::vector<std::string> AgentHome::WorkerDirectories() const {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(state_dir() + "/workers", error))
    if (!absl::StartsWith(entry.path().filename().string(), ".draft-"))  // the spares'
      out.push_back(entry.path().filename());
  return out;
}

std::vector<std::string> AgentHome::Cgroups() const {
  std::vector<std::string> out;
  std::error_code error;
  std::vector<fs::path> roots = {"/sys/fs/cgroup"};
  for (const auto& entry : fs::directory_iterator("/sys/fs/cgroup", error))
    if (entry.is_directory()) roots.push_back(entry.path());
  for (const fs::path& root : roots)
    for (const auto& entry : fs::directory_iterator(root / cgroup_parent(), error))
      if (entry.is_directory()) out.push_back(entry.path());
  return out;
}

absl::StatusOr<std::unique_ptr<AgentProcess>> AgentProcess::Start(
    const AgentHome& home, std::vector<std::string> more_flags) {
  std::vector<std::string> words = {
      BuiltFile("agent/daemon/drover-agent"),
      absl::StrCat("--state-dir=", home.state_dir()),
      absl::StrCat("--listen=", home.socket()),
      absl::StrCat("--image-dir=", home.image_dir()),
      absl::StrCat("--cgroup-parent=", home.cgroup_parent()),
      absl::StrCat("--helper=", BuiltFile("agent/helper/drover-helper")),
      absl::StrCat("--worker=", BuiltFile("vmm/worker/drover-vmm")),
      "--metrics-listen=",
  };
  words.insert(words.end(), more_flags.begin(), more_flags.end());
  const pid_t pid = Spawn(words, home.log());
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  auto channel = grpc::CreateCustomChannel(absl::StrCat("unix:", home.socket()),
                                           grpc::InsecureChannelCredentials(), arguments);
  std::unique_ptr<AgentProcess> agent(new AgentProcess(pid, channel));
  for (const auto end = steady_clock::now() + kPatience; steady_clock::now() < end;) {
    int status;
    if (waitpid(pid, &status, WNOHANG) == pid) {
      agent->pid_ = -1;
      return absl::InternalError(
          absl::StrCat("the agent ended with ", ExitCode(status), ":\n",
                       ReadSmallFile(home.log().c_str()).value_or("(no log)")));
    }
    if (Serving(*channel)) return agent;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return absl::DeadlineExceededError(absl::StrCat(
      "the agent does not serve:\n", ReadSmallFile(home.log().c_str()).value_or("(no log)")));
}

AgentProcess::~AgentProcess() {
  if (pid_ > 0) Terminate();
}

void AgentProcess::Kill() {
  kill(pid_, SIGKILL);
  Wait();
}

int AgentProcess::Terminate() {
  channel_.reset();  // an idle connection that nobody polls would hold up the agent's end
  kill(pid_, SIGTERM);
  return Wait();
}

int AgentProcess::Wait() {
  for (const auto end = steady_clock::now() + kPatience; steady_clock::now() < end;) {
    int status;
    const pid_t done = waitpid(pid_, &status, WNOHANG);
    if (done == pid_ || done < 0) {
      pid_ = -1;
      return done < 0 ? -1 : ExitCode(status);
    }
    std::this_thread::sleep_for(milliseconds(2));
  }
  return -1;
}

std::string BuiltFile(const std::string& path) {
  const char* root = getenv("DROVER_ROOT");
  const fs::path base = root != nullptr ? fs::path(root) : fs::current_path();
  return (base / path).string();
}

std::string WhyNoVms() {
  if (geteuid() != 0) return "not root: jails need it";
  const Fd kvm(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!kvm.valid()) return absl::StrCat("/dev/kvm cannot be opened: ", strerror(errno));
  return "";
}

}  // namespace drover
