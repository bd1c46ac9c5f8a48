#include "vmm/base/fd.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"

namespace drover {

void Fd::Reset(int fd) {
  const int saved = errno;
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
  errno = saved;
}

absl::StatusOr<Fd> Fd::Duplicate() const {
  Fd copy(fcntl(fd_, F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return PosixStatus(errno, "F_DUPFD_CLOEXEC", absl::StrCat("descriptor ", fd_));
  return copy;
}

absl::StatusOr<Fd> OpenFile(const char* path, int flags, unsigned mode) {
  Fd fd(open(path, flags | O_CLOEXEC, mode));
  if (!fd.valid()) return PosixStatus(errno, "open", path);
  return fd;
}

absl::StatusOr<Fd> MakeEventFd() {
  Fd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) return PosixStatus(errno, "eventfd", "");
  return fd;
}

absl::StatusOr<Fd> MakeMemFd(const char* name, uint64_t size, unsigned flags) {
  Fd fd(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags));
  if (!fd.valid()) return PosixStatus(errno, "memfd_create", name);
  if (ftruncate(fd.get(), static_cast<off_t>(size)) != 0)
    return PosixStatus(errno, "ftruncate", absl::StrCat(name, ", ", size, " bytes"));
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
    return PosixStatus(errno, "F_ADD_SEALS", name);
  return fd;
}

absl::StatusOr<std::string> ReadSmallFd(int fd, size_t limit) {
  std::string out;
  char buffer[4096];
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return PosixStatus(errno, "read", "");
    if (n == 0) return out;
    out.append(buffer, static_cast<size_t>(n));
    if (out.size() > limit)
      return absl::OutOfRangeError(absl::StrCat("file exceeds ", limit, " bytes"));
  }
}

absl::StatusOr<std::string> ReadSmallFile(const char* path, size_t limit) {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDONLY));
  absl::StatusOr<std::string> text = ReadSmallFd(fd.get(), limit);
  if (!text.ok()) return Annotate(text.status(), path);
  return text;
}

absl::Status WriteAll(int fd, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t n = write(fd, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return PosixStatus(errno, "write", "");
    data.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status WriteExisting(const char* path, absl::string_view data) {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_WRONLY));
  if (write(fd.get(), data.data(), data.size()) != static_cast<ssize_t>(data.size()))
    return PosixStatus(errno, "write", absl::StrCat(path, " <- ", data));
  return absl::OkStatus();
}

absl::Status ReplaceFile(const std::string& path, absl::string_view data, unsigned mode) {
  const std::string temporary = absl::StrCat(path, ".new");
  ASSIGN_OR_RETURN(Fd fd,
                   OpenFile(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode));
  absl::Status written = WriteAll(fd.get(), data);
  if (written.ok() && fsync(fd.get()) != 0) written = PosixStatus(errno, "fsync", temporary);
  if (written.ok() && rename(temporary.c_str(), path.c_str()) != 0)
    written = PosixStatus(errno, "rename", absl::StrCat(temporary, " to ", path));
  if (!written.ok()) unlink(temporary.c_str());
  return Annotate(written, path);
}

}  // namespace drover
