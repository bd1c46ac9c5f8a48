#include "agent/daemon/state_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr mode_t kStateMode = 01770;
constexpr mode_t kPublicMode = 0755;
constexpr std::chrono::milliseconds kLockRetry{50};

// Makes `path` and what is missing above it. True when `path` itself was made.
absl::StatusOr<bool> MakeDirectories(const std::string& path) {
  bool made = false;
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string head = path.substr(0, slash);
    made = mkdir(head.c_str(), kPublicMode) == 0;
    if (!made && errno != EEXIST) return PosixStatus(errno, "mkdir", head);
    if (slash == std::string::npos) return made;
  }
}

absl::StatusOr<Fd> OpenDirectory(const std::string& path) {
  return OpenFile(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

absl::Status SetOwner(const Fd& fd, const std::string& path, uid_t uid, gid_t gid, mode_t mode) {
  if (fchown(fd.get(), uid, gid) != 0) return PosixStatus(errno, "fchown", path);
  if (fchmod(fd.get(), mode) != 0) return PosixStatus(errno, "fchmod", path);
  return absl::OkStatus();
}

std::string HolderOf(const Fd& lock) {
  char text[32];
  const ssize_t n = pread(lock.get(), text, sizeof(text), 0);
  int pid = 0;
  if (n > 0 && absl::SimpleAtoi(std::string(text, static_cast<size_t>(n)), &pid) && pid > 0)
    return absl::StrCat("the drover-agent with process id ", pid);
  return "another drover-agent";
}

// Only tells people: a full disk keeps no agent from starting.
void WriteHolder(const Fd& lock, const std::string& path) {
  const std::string text = absl::StrCat(getpid(), "\n");
  if (ftruncate(lock.get(), 0) == 0 &&
      pwrite(lock.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()))
    return;
  Log(LogLevel::kWarning, "the lock does not tell who holds it",
      {{"path", path}, {"error", strerrordesc_np(errno)}});
}

}  // namespace

absl::Status PrepareStateDir(const std::string& path, const AgentUser& user) {
  RETURN_IF_ERROR(MakeDirectories(path));
  ASSIGN_OR_RETURN(const Fd directory, OpenDirectory(path));
  RETURN_IF_ERROR(SetOwner(directory, path, 0, user.gid, kStateMode));
  if (mkdirat(directory.get(), "images", kPublicMode) != 0 && errno != EEXIST)
    return PosixStatus(errno, "mkdir", path + "/images");
  return absl::OkStatus();
}

absl::Status PrepareSocketDir(const std::string& socket_path, const AgentUser& user) {
  const std::string path = socket_path.substr(0, socket_path.rfind('/'));
  if (path.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const bool made, MakeDirectories(path));
  if (!made) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Fd directory, OpenDirectory(path));
  return SetOwner(directory, path, user.uid, user.gid, kPublicMode);
}

absl::StatusOr<Fd> LockStateDir(const std::string& path, std::chrono::milliseconds patience) {
  const std::string name = path + "/agent.lock";
  ASSIGN_OR_RETURN(Fd lock, OpenFile(name.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW, 0640));
  const auto deadline = SteadyClock::now() + patience;
  while (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return PosixStatus(errno, "flock", name);
    if (SteadyClock::now() >= deadline)
      return WithReason(absl::FailedPreconditionError(absl::StrCat(
                            "the state directory ", path, " is in use by ", HolderOf(lock),
                            "; end that one, or give this one another --state-dir")),
                        "STATE_DIR_IN_USE");
    std::this_thread::sleep_for(kLockRetry);
  }
  WriteHolder(lock, name);
  return lock;
}

absl::Status CheckStateDirUsable(const std::string& path) {
  if (access(path.c_str(), R_OK | W_OK | X_OK) == 0) return absl::OkStatus();
  return Annotate(PosixStatus(errno, "access", path),
                  absl::StrCat("uid ", geteuid(),
                               " cannot use the state directory; a directory above it is closed to "
                               "that user: open it (chmod o+x) or choose another --state-dir"));
}

}  // namespace drover
