#include "snapshot/file_layer.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "snapshot/memory_file.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr unsigned kFileMode = 0600, kDirectoryMode = 0700;

}  // namespace

absl::StatusOr<std::unique_ptr<PosixFileLayer>> PosixFileLayer::Open(const char* directory) {
  ASSIGN_OR_RETURN(Fd root, OpenFile(directory, O_RDONLY | O_DIRECTORY));
  return std::unique_ptr<PosixFileLayer>(new PosixFileLayer(std::move(root)));
}

absl::StatusOr<Fd> PosixFileLayer::OpenAt(const std::string& path, int flags) const {
  const char* const name = path.empty() ? "." : path.c_str();
  Fd fd(openat(root_.get(), name, flags | O_CLOEXEC | O_NOFOLLOW, kFileMode));
  if (!fd.valid()) return PosixStatus(errno, "openat", path);
  return fd;
}

absl::StatusOr<std::unique_ptr<OutputFile>> PosixFileLayer::CreateFile(const std::string& path) {
  ASSIGN_OR_RETURN(Fd fd, OpenAt(path, O_RDWR | O_CREAT | O_EXCL));
  return std::make_unique<FdOutputFile>(std::move(fd));
}

absl::Status PosixFileLayer::MakeDirectory(const std::string& path) {
  if (mkdirat(root_.get(), path.c_str(), kDirectoryMode) != 0)
    return PosixStatus(errno, "mkdirat", path);
  return absl::OkStatus();
}

absl::Status PosixFileLayer::SyncDirectory(const std::string& path) {
  ASSIGN_OR_RETURN(const Fd fd, OpenAt(path, O_RDONLY | O_DIRECTORY));
  if (fsync(fd.get()) != 0) return PosixStatus(errno, "fsync", path);
  return absl::OkStatus();
}

absl::Status PosixFileLayer::Rename(const std::string& from, const std::string& to) {
  if (renameat2(root_.get(), from.c_str(), root_.get(), to.c_str(), RENAME_NOREPLACE) != 0)
    return PosixStatus(errno, "renameat2", absl::StrCat(from, " to ", to));
  return absl::OkStatus();
}

absl::Status PosixFileLayer::RemoveDirectory(const std::string& path) {
  const absl::StatusOr<std::vector<std::string>> names = List(path);
  if (absl::IsNotFound(names.status())) return absl::OkStatus();
  RETURN_IF_ERROR(names);
  for (const std::string& name : *names)
    if (unlinkat(root_.get(), absl::StrCat(path, "/", name).c_str(), 0) != 0)
      return PosixStatus(errno, "unlinkat", absl::StrCat(path, "/", name));
  if (unlinkat(root_.get(), path.c_str(), AT_REMOVEDIR) != 0)
    return PosixStatus(errno, "unlinkat", path);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> PosixFileLayer::List(const std::string& path) {
  ASSIGN_OR_RETURN(Fd fd, OpenAt(path, O_RDONLY | O_DIRECTORY));
  DIR* const directory = fdopendir(fd.get());
  if (directory == nullptr) return PosixStatus(errno, "fdopendir", path);
  (void)fd.Release();  // the DIR's
  std::vector<std::string> names;
  while (const dirent* entry = readdir(directory))
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
      names.emplace_back(entry->d_name);
  closedir(directory);
  std::ranges::sort(names);
  return names;
}

absl::StatusOr<std::string> PosixFileLayer::ReadFile(const std::string& path, size_t limit) {
  ASSIGN_OR_RETURN(const Fd fd, OpenAt(path, O_RDONLY | O_NONBLOCK));
  return ReadSmallFd(fd.get(), limit);
}

absl::StatusOr<FileLayer::FileFacts> PosixFileLayer::Examine(const std::string& path, bool digest) {
  ASSIGN_OR_RETURN(const Fd fd, OpenAt(path, O_RDONLY | O_NONBLOCK));
  struct stat stat;
  if (fstat(fd.get(), &stat) != 0) return PosixStatus(errno, "fstat", path);
  if (!S_ISREG(stat.st_mode))
    return absl::FailedPreconditionError(absl::StrCat(path, ": no regular file"));
  const auto bytes = static_cast<uint64_t>(stat.st_size);
  if (!digest) return FileFacts{bytes, 0};
  ASSIGN_OR_RETURN(const uint64_t crc64, DigestFile(fd.get()));
  return FileFacts{bytes, crc64};
}

}  // namespace drover
