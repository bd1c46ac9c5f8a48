#ifndef DROVER_VMM_BASE_FD_H_
#define DROVER_VMM_BASE_FD_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace drover {

// Owns one file descriptor and closes it. Move-only; thread-compatible. A raw int elsewhere is
// borrowed.
class Fd {
 public:
  Fd() = default;
  // Takes ownership of `fd`; -1 holds nothing.
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() { Reset(); }

  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

  // Gives ownership away.
  [[nodiscard]] int Release() { return std::exchange(fd_, -1); }

  // Closes what is held and takes `fd`. Keeps errno.
  void Reset(int fd = -1);

  // A second descriptor of the same open file, close-on-exec.
  absl::StatusOr<Fd> Duplicate() const;

 private:
  int fd_ = -1;
};

// open(2) with O_CLOEXEC added. The error names `path`.
absl::StatusOr<Fd> OpenFile(const char* path, int flags, unsigned mode = 0);

// An eventfd, non-blocking and close-on-exec, counting from 0.
absl::StatusOr<Fd> MakeEventFd();

// A sealed-size memfd of `size` bytes (F_SEAL_SHRINK | F_SEAL_GROW), close-on-exec; `flags` of
// memfd_create(2) besides, such as MFD_HUGETLB.
absl::StatusOr<Fd> MakeMemFd(const char* name, uint64_t size, unsigned flags = 0);

// Reads the whole of a small file, at most `limit` bytes; OUT_OF_RANGE where it is longer.
absl::StatusOr<std::string> ReadSmallFile(const char* path, size_t limit = 1 << 20);
absl::StatusOr<std::string> ReadSmallFd(int fd, size_t limit = 1 << 20);

// Writes all of `data` to `fd`, over short writes and EINTR.
absl::Status WriteAll(int fd, absl::string_view data);

// Opens an existing file for writing and writes `data` with one write(2), as /proc and cgroup files
// want it.
absl::Status WriteExisting(const char* path, absl::string_view data);

// Writes `path` by a temporary name, fsync and rename, with `mode`: readers see the old file or the
// new one.
absl::Status ReplaceFile(const std::string& path, absl::string_view data, unsigned mode);

}  // namespace drover

#endif  // DROVER_VMM_BASE_FD_H_
