#include "agent/helper/helper_process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr int kLockFd = 4;
constexpr int kFirstParked = 32;
constexpr int kEndMillis = 5000;

// Prepared before the fork; the child makes system calls only.
struct HelperPlan {
  const char* program;
  char* const* argv;
  int channel;
  int lock;   // -1: none
  int error;  // close-on-exec pipe for the errno of a failure
};

[[noreturn]] void RunHelperChild(HelperPlan plan) {
  char* const environment[] = {nullptr};
  const int channel = fcntl(plan.channel, F_DUPFD_CLOEXEC, kFirstParked);
  const int lock = plan.lock < 0 ? -1 : fcntl(plan.lock, F_DUPFD_CLOEXEC, kFirstParked);
  const int error = fcntl(plan.error, F_DUPFD_CLOEXEC, kFirstParked);
  setsid();
  if (channel >= 0 && error >= 0 && dup3(channel, kHelperChannelFd, 0) >= 0 &&
      (lock < 0 || dup3(lock, kLockFd, 0) >= 0) && dup3(error, kLockFd + 1, O_CLOEXEC) >= 0) {
    if (lock < 0) close(kLockFd);
    syscall(SYS_close_range, kLockFd + 2, ~0U, 0);
    plan.error = kLockFd + 1;
    execve(plan.program, plan.argv, environment);
  }
  const int failure = errno;
  if (write(plan.error, &failure, sizeof(failure)) < 0) _exit(126);
  _exit(127);
}

absl::Status AwaitExec(int error, const std::string& program) {
  int failure = 0;
  ssize_t n;
  do {
    n = read(error, &failure, sizeof(failure));
  } while (n < 0 && errno == EINTR);
  return n == sizeof(failure) ? PosixStatus(failure, "execute", program) : absl::OkStatus();
}

void WaitFor(pid_t pid) {
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

absl::StatusOr<std::pair<Fd, Fd>> MakePipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return PosixStatus(errno, "pipe2", "");
  return std::make_pair(Fd(fds[0]), Fd(fds[1]));
}

}  // namespace

absl::StatusOr<std::unique_ptr<HelperProcess>> HelperProcess::Spawn(const std::string& program,
                                                                    const HelperOptions& options) {
  HelperOptions inside = options;
  if (inside.lock_fd >= 0) inside.lock_fd = kLockFd;
  std::vector<std::string> words = FormatHelperArguments(inside);
  words.insert(words.begin(), "drover-helper");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ASSIGN_OR_RETURN(auto channel, UnixChannel::Pair());
  ASSIGN_OR_RETURN(auto error, MakePipe());

  const pid_t pid = fork();
  if (pid < 0) return PosixStatus(errno, "fork", program);
  if (pid == 0)
    RunHelperChild(
        {program.c_str(), argv.data(), channel.second.fd(), options.lock_fd, error.second.get()});
  channel.second.Close();
  error.second.Reset();
  if (const absl::Status executed = AwaitExec(error.first.get(), program); !executed.ok()) {
    WaitFor(pid);
    return executed;
  }
  Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  std::unique_ptr<HelperProcess> process(new HelperProcess(
      pid, std::move(pidfd), std::make_unique<HelperClient>(std::move(channel.first))));
  RETURN_IF_ERROR(process->client_->AwaitReady());
  return process;
}

HelperProcess::~HelperProcess() {
  client_ = nullptr;  // its channel's end ends the helper
  struct pollfd entry = {.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
  if (poll(&entry, 1, kEndMillis) <= 0) kill(pid_, SIGKILL);
  WaitFor(pid_);
}

}  // namespace drover
