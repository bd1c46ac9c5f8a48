#include "agent/jail/open_beneath.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

absl::Status Refusal(const std::string& path, absl::string_view words, absl::string_view reason) {
  return WithReason(absl::InvalidArgumentError(absl::StrCat("\"", path, "\" ", words)), reason);
}

absl::Status OpenError(const std::string& path, int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return Refusal(path, "does not exist", "FILE_NOT_FOUND");
    case EXDEV:
    case ELOOP:
      return Refusal(path, "leads out of its allowed directory (by \"..\" or a link)",
                     "FILE_NOT_ALLOWED");
    default:
      return WithPosixErrno(
          Refusal(path, absl::StrCat("cannot be opened: ", strerrordesc_np(error)),
                  "FILE_NOT_READABLE"),
          error);
  }
}

// An O_PATH descriptor: nothing is opened yet, so that a device or FIFO notices nothing.
absl::StatusOr<Fd> Find(const std::string& directory, const std::string& path) {
  const Fd parent(
      open(directory.empty() ? "/" : directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!parent.valid()) return OpenError(path, errno);
  const std::string name =
      path.substr(std::min(path.find_first_not_of('/', directory.size()), path.size()));
  struct open_how how = {};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  Fd file(static_cast<int>(
      syscall(SYS_openat2, parent.get(), name.empty() ? "." : name.c_str(), &how, sizeof(how))));
  if (!file.valid()) return OpenError(path, errno);
  return file;
}

absl::Status CheckKind(const std::string& path, int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0) return OpenError(path, errno);
  if (!S_ISREG(info.st_mode)) return Refusal(path, "is not a regular file", "FILE_NOT_REGULAR");
  if (info.st_size == 0) return Refusal(path, "is empty", "FILE_EMPTY");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ImageDirectories> ImageDirectories::Create(std::vector<std::string> directories) {
  for (std::string& directory : directories) {
    if (!absl::StartsWith(directory, "/"))
      return absl::InvalidArgumentError(
          absl::StrCat("the image directory \"", directory, "\" is not an absolute path"));
    while (!directory.empty() && directory.back() == '/') directory.pop_back();
  }
  return ImageDirectories(std::move(directories));
}

absl::StatusOr<Fd> ImageDirectories::Open(const std::string& path) const {
  if (path.size() >= PATH_MAX || path.find('\0') != std::string::npos)
    return WithReason(
        absl::InvalidArgumentError(absl::StrCat("a path of ", path.size(), " bytes is longer than ",
                                                PATH_MAX - 1, " or holds a zero byte")),
        "FILE_NOT_ALLOWED");
  const std::string* best = nullptr;
  for (const std::string& directory : paths_)
    if (absl::StartsWith(path, directory + "/") && (!best || directory.size() > best->size()))
      best = &directory;
  if (best == nullptr)
    return Refusal(
        path, absl::StrCat("is not under an allowed directory (", absl::StrJoin(paths_, ", "), ")"),
        "FILE_NOT_ALLOWED");
  ASSIGN_OR_RETURN(const Fd found, Find(*best, path));
  RETURN_IF_ERROR(CheckKind(path, found.get()));
  const std::string again = absl::StrCat("/proc/self/fd/", found.get());
  Fd file(open(again.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!file.valid()) return OpenError(path, errno);
  return file;
}

}  // namespace drover
