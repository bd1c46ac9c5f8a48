#include "agent/helper/instance_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/helper/identity_proto.h"
#include "vmm/base/status.h"
#include "vmm/base/unix_channel.h"

namespace drover {
namespace {

constexpr const char* kFiles[] = {"control.sock", "identity", "identity.new", "last-words", "log"};
// Kept free for the last words, so that they fit even when the disk is full by then.
constexpr off_t kLastWordsReserve = 4096;
constexpr size_t kMaxIdentityBytes = 4096;

absl::Status StoreError(int error, absl::string_view call, const std::string& name) {
  const std::string detail = absl::StrCat("workers/", name);
  if (error != ENOSPC && error != EDQUOT) return PosixStatus(error, call, detail);
  return WithReason(WithPosixErrno(absl::ResourceExhaustedError(absl::StrCat(
                                       "the state directory is full (", call, " ", detail, ": ",
                                       strerrordesc_np(error), "); free space or inodes there")),
                                   error),
                    "STATE_DIR_FULL");
}

absl::Status StoreError(const absl::Status& status, absl::string_view call,
                        const std::string& name) {
  const int error = PosixErrno(status).value_or(0);
  return status.ok() || error == 0 ? status : StoreError(error, call, name);
}

absl::Status CheckOwner(int fd, const std::string& path) {
  struct stat info;
  if (fstat(fd, &info) != 0) return PosixStatus(errno, "fstat", path);
  if (info.st_uid != geteuid())
    return absl::FailedPreconditionError(
        absl::StrCat(path, " belongs to user ", info.st_uid, ", not to the helper's (", geteuid(),
                     "); remove it or choose another state directory"));
  return absl::OkStatus();
}

std::string TagOf(const struct stat& info) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const uint64_t word : {uint64_t{info.st_dev}, uint64_t{info.st_ino}})
    for (int shift = 0; shift < 64; shift += 8)
      hash = (hash ^ (word >> shift & 0xff)) * 1099511628211u;
  return absl::StrFormat("%08x", static_cast<uint32_t>(hash ^ hash >> 32));
}

}  // namespace

absl::StatusOr<std::unique_ptr<InstanceStore>> InstanceStore::Open(const std::string& state_dir,
                                                                   uint32_t agent_gid) {
  const std::string path = state_dir + "/workers";
  if (mkdir(path.c_str(), 0750) != 0 && errno != EEXIST) return PosixStatus(errno, "mkdir", path);
  ASSIGN_OR_RETURN(Fd workers, OpenFile(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  RETURN_IF_ERROR(CheckOwner(workers.get(), path));
  if (fchown(workers.get(), static_cast<uid_t>(-1), agent_gid) != 0)
    return PosixStatus(errno, "fchown", path);
  if (fchmod(workers.get(), 02750) != 0) return PosixStatus(errno, "fchmod", path);
  struct stat info;
  if (fstat(workers.get(), &info) != 0) return PosixStatus(errno, "fstat", path);
  return std::unique_ptr<InstanceStore>(new InstanceStore(std::move(workers), TagOf(info)));
}

absl::Status InstanceStore::CheckId(const std::string& instance_id) {
  const bool good =
      !instance_id.empty() && instance_id.size() <= 63 &&
      instance_id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
  if (good) return absl::OkStatus();
  return WithReason(
      absl::InvalidArgumentError("an instance id has 1 to 63 characters of a-z, 0-9 and '-'"),
      "INVALID_INSTANCE_ID");
}

absl::StatusOr<std::vector<std::string>> InstanceStore::List() const {
  Fd copy(openat(workers_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!copy.valid()) return PosixStatus(errno, "open", "workers");
  DIR* const stream = fdopendir(copy.get());
  if (stream == nullptr) return PosixStatus(errno, "fdopendir", "workers");
  (void)copy.Release();  // the stream's now
  std::vector<std::string> ids;
  while (const struct dirent* entry = readdir(stream))
    if (CheckId(entry->d_name).ok()) ids.push_back(entry->d_name);
  closedir(stream);
  std::sort(ids.begin(), ids.end());
  return ids;
}

absl::StatusOr<InstanceFiles> InstanceStore::Create(const std::string& instance_id) {
  RETURN_IF_ERROR(CheckId(instance_id));
  RETURN_IF_ERROR(MakeDirectory(instance_id));
  absl::StatusOr<InstanceFiles> files = MakeFiles(instance_id);
  if (!files.ok()) Remove(instance_id).IgnoreError();
  return files;
}

absl::Status InstanceStore::MakeDirectory(const std::string& instance_id) {
  if (mkdirat(workers_.get(), instance_id.c_str(), 0750) == 0) return absl::OkStatus();
  if (errno != EEXIST) return StoreError(errno, "mkdir", instance_id);
  return WithReason(absl::AlreadyExistsError(absl::StrCat("the instance ", instance_id, " exists")),
                    "INSTANCE_EXISTS");
}

absl::StatusOr<InstanceFiles> InstanceStore::MakeFiles(const std::string& instance_id) {
  InstanceFiles files;
  ASSIGN_OR_RETURN(files.log, MakeFile(instance_id + "/log", O_WRONLY | O_APPEND, 0640));
  ASSIGN_OR_RETURN(files.last_words, MakeFile(instance_id + "/last-words", O_WRONLY, 0600));
  if (fallocate(files.last_words.get(), FALLOC_FL_KEEP_SIZE, 0, kLastWordsReserve) != 0 &&
      errno != EOPNOTSUPP)
    return StoreError(errno, "fallocate", instance_id + "/last-words");
  ASSIGN_OR_RETURN(files.control, MakeControlSocket(instance_id));
  return files;
}

absl::StatusOr<Fd> InstanceStore::MakeControlSocket(const std::string& instance_id) {
  const std::string name = instance_id + "/control.sock";
  absl::StatusOr<Fd> control =
      ListenUnix(absl::StrCat("/proc/self/fd/", workers_.get(), "/", name), 0660);
  if (!control.ok()) return StoreError(control.status(), "bind", name);
  return control;
}

absl::StatusOr<Fd> InstanceStore::MakeFile(const std::string& name, int flags,
                                           unsigned mode) const {
  Fd file(openat(workers_.get(), name.c_str(), flags | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                 mode));
  if (!file.valid()) return StoreError(errno, "create", name);
  return file;
}

absl::Status InstanceStore::WriteIdentity(const WorkerIdentity& identity) {
  RETURN_IF_ERROR(CheckId(identity.instance_id));
  const std::string name = identity.instance_id + "/identity";
  const std::string temporary = name + ".new";
  ASSIGN_OR_RETURN(const Fd file, MakeFile(temporary, O_WRONLY, 0600));
  RETURN_IF_ERROR(StoreError(WriteAll(file.get(), IdentityToProto(identity).SerializeAsString()),
                             "write", temporary));
  if (renameat(workers_.get(), temporary.c_str(), workers_.get(), name.c_str()) != 0)
    return StoreError(errno, "rename", temporary);
  return absl::OkStatus();
}

absl::StatusOr<Fd> InstanceStore::OpenForReading(const std::string& name) const {
  Fd file(openat(workers_.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file.valid()) return StoreError(errno, "open", name);
  return file;
}

absl::StatusOr<WorkerIdentity> InstanceStore::ReadIdentity(const std::string& instance_id) const {
  RETURN_IF_ERROR(CheckId(instance_id));
  ASSIGN_OR_RETURN(const Fd file, OpenForReading(instance_id + "/identity"));
  ASSIGN_OR_RETURN(const std::string bytes, ReadSmallFd(file.get(), kMaxIdentityBytes));
  worker::v1::WorkerIdentity proto;
  if (!proto.ParseFromString(bytes) || proto.instance_id() != instance_id)
    return absl::DataLossError(absl::StrCat("workers/", instance_id, "/identity is damaged"));
  return IdentityFromProto(proto);
}

absl::StatusOr<std::string> InstanceStore::ReadLastWords(const std::string& instance_id) const {
  RETURN_IF_ERROR(CheckId(instance_id));
  ASSIGN_OR_RETURN(const Fd file, OpenForReading(instance_id + "/last-words"));
  std::string words(kMaxLastWordsBytes, '\0');
  const ssize_t n = pread(file.get(), words.data(), words.size(), 0);
  if (n < 0) return StoreError(errno, "read", instance_id + "/last-words");
  words.resize(static_cast<size_t>(n));
  return words;
}

absl::Status InstanceStore::Remove(const std::string& instance_id) {
  RETURN_IF_ERROR(CheckId(instance_id));
  for (const char* file : kFiles)
    unlinkat(workers_.get(), absl::StrCat(instance_id, "/", file).c_str(), 0);
  if (unlinkat(workers_.get(), instance_id.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
    return StoreError(errno, "rmdir", instance_id);
  return absl::OkStatus();
}

}  // namespace drover
