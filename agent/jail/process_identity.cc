#include "agent/jail/process_identity.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr size_t kStartTicksAfterName = 22 - 3;  // fields are counted from 1; 3 follows the name

absl::Status NoSuchProcess(pid_t pid) {
  return absl::NotFoundError(absl::StrCat("process ", pid, " has ended"));
}

}  // namespace

absl::StatusOr<uint64_t> ParseStartTicks(absl::string_view stat) {
  const size_t name_end = stat.rfind(')');  // the fields after the name hold no parenthesis
  if (name_end == absl::string_view::npos)
    return absl::InvalidArgumentError("/proc/PID/stat has no process name");
  const std::vector<absl::string_view> fields =
      absl::StrSplit(stat.substr(name_end + 1), absl::ByAnyChar(" \n"), absl::SkipEmpty());
  uint64_t ticks = 0;
  if (fields.size() <= kStartTicksAfterName ||
      !absl::SimpleAtoi(fields[kStartTicksAfterName], &ticks))
    return absl::InvalidArgumentError("/proc/PID/stat has no start time");
  return ticks;
}

absl::StatusOr<uint64_t> ReadStartTicks(pid_t pid) {
  absl::StatusOr<std::string> stat =
      ReadSmallFile(absl::StrCat("/proc/", pid, "/stat").c_str(), 8192);
  if (stat.ok()) return ParseStartTicks(*stat);
  const int error = PosixErrno(stat.status()).value_or(0);
  return error == ENOENT || error == ESRCH ? NoSuchProcess(pid) : stat.status();
}

absl::StatusOr<std::string> ReadBootId() {
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile("/proc/sys/kernel/random/boot_id", 128));
  return std::string(absl::StripAsciiWhitespace(text));
}

absl::StatusOr<Fd> OpenProcess(pid_t pid, uint64_t start_ticks) {
  if (pid <= 0) return absl::InvalidArgumentError(absl::StrCat(pid, " is no process id"));
  Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid() && errno == ESRCH) return NoSuchProcess(pid);
  if (!pidfd.valid()) return PosixStatus(errno, "pidfd_open", absl::StrCat(pid));
  ASSIGN_OR_RETURN(const uint64_t ticks, ReadStartTicks(pid));
  // Not ended after the read: what was read belongs to the process behind the pidfd.
  if (ticks != start_ticks || HasEnded(pidfd.get())) return NoSuchProcess(pid);
  return pidfd;
}

bool HasEnded(int pidfd) {
  struct pollfd entry = {.fd = pidfd, .events = POLLIN, .revents = 0};
  return poll(&entry, 1, 0) > 0;
}

absl::Status KillProcess(int pidfd) {
  if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0) == 0 || errno == ESRCH)
    return absl::OkStatus();
  return PosixStatus(errno, "pidfd_send_signal", "SIGKILL");
}

}  // namespace drover
