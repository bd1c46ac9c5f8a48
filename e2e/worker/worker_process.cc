#include "e2e/worker/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/worker/v1/helper.pb.h"
#include "vmm/base/status.h"
#include "vmm/base/status_proto.h"

namespace drover {
namespace {

namespace pb = worker::v1;

constexpr std::chrono::seconds kPatience(60);

// In the child: the descriptors where the worker wants them. `channel` and `kvm` are above 10.
[[noreturn]] void Become(const char* binary, int channel, int kvm, int log) {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(null, 0);
  dup2(null, 1);
  dup2(log, 2);
  dup2(channel, 3);
  dup2(kvm, 4);
  execl(binary, binary, "--worker", nullptr);
  _exit(127);
}

absl::StatusOr<int> Above10(const Fd& fd) {
  const int moved = fcntl(fd.get(), F_DUPFD_CLOEXEC, 10);
  if (moved < 0) return PosixStatus(errno, "fcntl", "F_DUPFD_CLOEXEC");
  return moved;
}

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerProcess>> WorkerProcess::Start(const std::string& binary) {
  std::unique_ptr<WorkerProcess> process(new WorkerProcess());
  char name[] = "/tmp/drover-worker-XXXXXX";
  if (mkdtemp(name) == nullptr) return PosixStatus(errno, "mkdtemp", name);
  process->directory_ = name;
  ASSIGN_OR_RETURN(auto pair, UnixChannel::Pair());
  ASSIGN_OR_RETURN(Fd kvm, OpenFile("/dev/kvm", O_RDWR));
  ASSIGN_OR_RETURN(Fd log,
                   OpenFile(process->Path("log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600));
  const Fd theirs = pair.second.Release();
  ASSIGN_OR_RETURN(const int high_channel, Above10(theirs));
  const Fd channel(high_channel);
  ASSIGN_OR_RETURN(const int high_kvm, Above10(kvm));
  const Fd moved_kvm(high_kvm);
  process->channel_ = std::move(pair.first);
  process->pid_ = fork();
  if (process->pid_ < 0) return PosixStatus(errno, "fork", "");
  if (process->pid_ == 0) Become(binary.c_str(), channel.get(), moved_kvm.get(), log.get());
  return process;
}

WorkerProcess::~WorkerProcess() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::error_code ignored;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
}

absl::Status WorkerProcess::Launch(const std::string& kernel_path, const std::string& initrd_path) {
  ASSIGN_OR_RETURN(const Fd listener, ListenUnix(Path("control.sock"), 0600));
  ASSIGN_OR_RETURN(const Fd words, OpenFile(Path("last-words").c_str(), O_WRONLY | O_CREAT, 0600));
  ASSIGN_OR_RETURN(const Fd log, OpenFile(Path("log").c_str(), O_WRONLY | O_APPEND));
  ASSIGN_OR_RETURN(const Fd kernel, OpenFile(kernel_path.c_str(), O_RDONLY));
  std::vector<int> fds = {listener.get(), words.get(), log.get(), kernel.get()};
  Fd initrd;
  if (!initrd_path.empty()) {
    ASSIGN_OR_RETURN(initrd, OpenFile(initrd_path.c_str(), O_RDONLY));
    fds.push_back(initrd.get());
  }
  pb::WorkerLaunch launch;
  launch.set_instance_id("instance-1");
  launch.set_has_initrd(initrd.valid());
  return channel_.Send(launch.SerializeAsString(), fds);
}

absl::Status WorkerProcess::Connect() {
  ASSIGN_OR_RETURN(control_, UnixChannel::Connect(Path("control.sock")));
  return absl::OkStatus();
}

absl::StatusOr<pb::WorkerResponse> WorkerProcess::Receive(Fd* descriptor) {
  ASSIGN_OR_RETURN(ChannelMessage message, control_.Receive(kPatience));
  pb::WorkerResponse response;
  if (!response.ParseFromString(message.bytes)) return absl::DataLossError("not a response");
  if (descriptor != nullptr && !message.fds.empty()) *descriptor = std::move(message.fds[0]);
  return response;
}

absl::StatusOr<pb::WorkerResponse> WorkerProcess::Call(pb::WorkerRequest request, Fd* descriptor) {
  request.set_sequence(++sequence_);
  RETURN_IF_ERROR(control_.Send(request.SerializeAsString()));
  for (;;) {
    ASSIGN_OR_RETURN(pb::WorkerResponse response, Receive(descriptor));
    if (response.sequence() == 0) {
      events_.push_back(response.machine());
      continue;
    }
    if (response.sequence() != sequence_)
      return absl::DataLossError(absl::StrCat("an answer to request ", response.sequence()));
    RETURN_IF_ERROR(StatusFromProto(response.status()));
    return response;
  }
}

absl::StatusOr<pb::MachineStatus> WorkerProcess::NextEvent() {
  if (events_.empty()) {
    ASSIGN_OR_RETURN(pb::WorkerResponse response, Receive(nullptr));
    if (response.sequence() != 0) return absl::DataLossError("an answer where an event was due");
    return response.machine();
  }
  pb::MachineStatus event = events_.front();
  events_.pop_front();
  return event;
}

absl::StatusOr<pb::MachineStatus> WorkerProcess::WaitForState(pb::MachineState state) {
  for (;;) {
    ASSIGN_OR_RETURN(pb::MachineStatus event, NextEvent());
    if (event.state() == state) return event;
  }
}

absl::Status WorkerProcess::Boot(uint32_t vcpus, uint64_t memory_bytes,
                                 const std::string& command_line) {
  pb::WorkerRequest hello;
  hello.mutable_hello()->set_min_protocol(1);
  hello.mutable_hello()->set_max_protocol(1);
  RETURN_IF_ERROR(Call(hello).status());
  pb::WorkerRequest configure;
  configure.mutable_configure()->set_vm_id("vm-1");
  configure.mutable_configure()->set_vcpus(vcpus);
  configure.mutable_configure()->set_memory_bytes(memory_bytes);
  configure.mutable_configure()->set_command_line(command_line);
  RETURN_IF_ERROR(Call(configure).status());
  pb::WorkerRequest attach;
  attach.mutable_attach_console();
  RETURN_IF_ERROR(Call(attach, &console_).status());
  pb::WorkerRequest start;
  start.mutable_start();
  return Call(start).status();
}

absl::StatusOr<std::string> WorkerProcess::ReadUntil(absl::string_view text) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    const size_t at = console_text_.find(text.data(), 0, text.size());
    if (at != std::string::npos) {
      std::string found = console_text_.substr(0, at + text.size());
      console_text_.erase(0, at + text.size());
      return found;
    }
    struct pollfd entry = {.fd = console_.get(), .events = POLLIN, .revents = 0};
    poll(&entry, 1, 1000);
    char buffer[4096];
    const ssize_t n = recv(console_.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n > 0) console_text_.append(buffer, static_cast<size_t>(n));
    if (n == 0 || std::chrono::steady_clock::now() > deadline)
      return absl::DeadlineExceededError(
          absl::StrCat("the console ended or timed out without \"", text, "\": ", console_text_));
  }
}

absl::Status WorkerProcess::Type(absl::string_view text) { return WriteAll(console_.get(), text); }

absl::StatusOr<int> WorkerProcess::Wait() {
  int status = 0;
  if (waitpid(pid_, &status, 0) != pid_) return PosixStatus(errno, "waitpid", "");
  pid_ = -1;
  return status;
}

absl::StatusOr<pb::LastWords> WorkerProcess::ReadLastWords() const {
  ASSIGN_OR_RETURN(const std::string bytes, ReadSmallFile(Path("last-words").c_str()));
  pb::LastWords words;
  if (!words.ParseFromString(bytes)) return absl::DataLossError("not LastWords");
  return words;
}

absl::StatusOr<std::string> WorkerProcess::ReadLog() const {
  return ReadSmallFile(Path("log").c_str());
}

}  // namespace drover
