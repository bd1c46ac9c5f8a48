#include "agent/helper/instance_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/helper/identity_proto.h"
#include "vmm/base/status.h"
#include "vmm/base/unix_channel.h"

namespace drover {
namespace {

constexpr const char* kFiles[] = {"control.sock", "identity", "last-words", "log"};
constexpr absl::string_view kDraftPrefix = ".draft-";
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
  std::unique_ptr<InstanceStore> store(new InstanceStore(std::move(workers), TagOf(info)));
  RETURN_IF_ERROR(store->RemoveStrayDrafts());
  return store;
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

absl::StatusOr<std::vector<std::string>> InstanceStore::Entries() const {
  Fd copy(openat(workers_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!copy.valid()) return PosixStatus(errno, "open", "workers");
  DIR* const stream = fdopendir(copy.get());
  if (stream == nullptr) return PosixStatus(errno, "fdopendir", "workers");
  (void)copy.Release();  // the stream's now
  std::vector<std::string> names;
  while (const struct dirent* entry = readdir(stream)) names.push_back(entry->d_name);
  closedir(stream);
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<std::vector<std::string>> InstanceStore::List() const {
  ASSIGN_OR_RETURN(std::vector<std::string> ids, Entries());
  std::erase_if(ids, [](const std::string& name) { return !CheckId(name).ok(); });
  return ids;
}

// An earlier helper's.
absl::Status InstanceStore::RemoveStrayDrafts() const {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, Entries());
  for (const std::string& name : names)
    if (absl::StartsWith(name, kDraftPrefix)) RemoveDirectory(name).IgnoreError();
  return absl::OkStatus();
}

absl::Status InstanceStore::Prepare() {
  ASSIGN_OR_RETURN(InstanceDraft draft, MakeDraft());
  drafts_.push_back(std::move(draft));
  return absl::OkStatus();
}

void InstanceStore::DropDrafts() {
  for (const InstanceDraft& draft : drafts_) RemoveDirectory(draft.name).IgnoreError();
  drafts_.clear();
}

absl::StatusOr<InstanceDraft> InstanceStore::MakeDraft() {
  InstanceDraft draft;
  draft.name = absl::StrCat(kDraftPrefix, next_draft_++);
  if (mkdirat(workers_.get(), draft.name.c_str(), 0750) != 0)
    return StoreError(errno, "mkdir", draft.name);
  const absl::Status filled = FillDraft(&draft);
  if (filled.ok()) return draft;
  RemoveDirectory(draft.name).IgnoreError();
  return filled;
}

absl::Status InstanceStore::FillDraft(InstanceDraft* draft) const {
  const std::string words = draft->name + "/last-words";
  ASSIGN_OR_RETURN(draft->files.log, MakeFile(draft->name + "/log", O_WRONLY | O_APPEND, 0640));
  ASSIGN_OR_RETURN(draft->files.last_words, MakeFile(words, O_WRONLY, 0600));
  if (fallocate(draft->files.last_words.get(), FALLOC_FL_KEEP_SIZE, 0, kLastWordsReserve) != 0 &&
      errno != EOPNOTSUPP)
    return StoreError(errno, "fallocate", words);
  ASSIGN_OR_RETURN(draft->identity, MakeFile(draft->name + "/identity", O_WRONLY, 0600));
  ASSIGN_OR_RETURN(draft->files.control, MakeControlSocket(draft->name));
  return absl::OkStatus();
}

absl::StatusOr<InstanceDraft> InstanceStore::TakeDraft() {
  if (drafts_.empty()) return MakeDraft();
  InstanceDraft draft = std::move(drafts_.back());
  drafts_.pop_back();
  return draft;
}

absl::StatusOr<InstanceFiles> InstanceStore::Create(const WorkerIdentity& identity) {
  RETURN_IF_ERROR(CheckId(identity.instance_id));
  ASSIGN_OR_RETURN(InstanceDraft draft, TakeDraft());
  const absl::Status published = Publish(draft, identity);
  if (published.ok()) return std::move(draft.files);
  RemoveDirectory(draft.name).IgnoreError();
  return published;
}

absl::Status InstanceStore::Publish(const InstanceDraft& draft,
                                    const WorkerIdentity& identity) const {
  const std::string& id = identity.instance_id;
  RETURN_IF_ERROR(
      StoreError(WriteAll(draft.identity.get(), IdentityToProto(identity).SerializeAsString()),
                 "write", id + "/identity"));
  if (renameat2(workers_.get(), draft.name.c_str(), workers_.get(), id.c_str(), RENAME_NOREPLACE) ==
      0)
    return absl::OkStatus();
  if (errno != EEXIST) return StoreError(errno, "rename", id);
  return WithReason(absl::AlreadyExistsError(absl::StrCat("the instance ", id, " exists")),
                    "INSTANCE_EXISTS");
}

absl::StatusOr<Fd> InstanceStore::MakeControlSocket(const std::string& directory) const {
  const std::string name = directory + "/control.sock";
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
  return RemoveDirectory(instance_id);
}

absl::Status InstanceStore::RemoveDirectory(const std::string& name) const {
  for (const char* file : kFiles)
    unlinkat(workers_.get(), absl::StrCat(name, "/", file).c_str(), 0);
  if (unlinkat(workers_.get(), name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
    return StoreError(errno, "rmdir", name);
  return absl::OkStatus();
}

}  // namespace drover
