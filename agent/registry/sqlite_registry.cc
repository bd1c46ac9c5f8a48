#include "agent/registry/sqlite_registry.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/registry/record_proto.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr absl::string_view kSqliteMagic("SQLite format 3\0", 16);

constexpr off_t kLogBytes = 5 << 20;     // 1000 pages with their headers, and the last write's
constexpr off_t kGrowthBytes = 1 << 20;  // some thousand records

constexpr char kCreateSchema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE vms(id TEXT PRIMARY KEY NOT NULL, record BLOB NOT NULL) WITHOUT ROWID;"
    "PRAGMA application_id=1146246738;"
    "PRAGMA user_version=1;"
    "COMMIT;";
static_assert(SqliteRegistry::kApplicationId == 1146246738 && SqliteRegistry::kSchemaVersion == 1);

absl::Status Foreign(const std::string& path, absl::string_view what) {
  return WithReason(absl::FailedPreconditionError(absl::StrCat(
                        path, " is not a registry of Drover (", what,
                        "); it was left as it is: move it away, or give another state directory")),
                    "REGISTRY_FOREIGN");
}

absl::Status Newer(const std::string& path, int64_t version) {
  return WithReason(
      absl::FailedPreconditionError(absl::StrCat(
          "the registry ", path, " has schema version ", version, ", and this agent knows ",
          SqliteRegistry::kSchemaVersion, " at most: run the newer agent that wrote it")),
      "REGISTRY_NEWER");
}

// Takes room on the disk beyond the end of a file, which stays as it is, so that VMs can be stopped
// and deleted when others have filled the disk. What the file system cannot give is done without:
// false where it is full.
bool Reserve(int fd, off_t bytes) {
  if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, bytes) == 0 || errno == EOPNOTSUPP) return true;
  Log(LogLevel::kWarning, "no room can be reserved for the registry on its disk",
      {{"bytes", static_cast<long long>(bytes)}, {"error", strerrordesc_np(errno)}});
  return false;
}

// Fills a file with zeros up to `bytes`, so that later writes into it change neither its size nor
// what is allocated to it: those changes go through the file system's own log, and each commit
// would wait for that too. SQLite takes zeros for the end of its log (fileformat2.html §4.1: a
// frame's salts and checksum must fit the header's). What fails is done without.
void Fill(int fd, off_t bytes) {
  static constexpr char kZeros[64 << 10] = {};
  struct stat info;
  if (fstat(fd, &info) != 0) return;
  for (off_t at = info.st_size; at < bytes;) {
    const size_t size = std::min<size_t>(sizeof(kZeros), static_cast<size_t>(bytes - at));
    const ssize_t written = pwrite(fd, kZeros, size, at);
    if (written <= 0) return;
    at += written;
  }
  fdatasync(fd);
}

// SQLite starts its log anew from 1000 pages on (wal_autocheckpoint), and never cuts it. Unlike the
// database it is not locked by POSIX locks, which a second descriptor's end would release.
void ReserveLog(const std::string& path) {
  const absl::StatusOr<Fd> log = OpenFile((path + "-wal").c_str(), O_RDWR | O_NOFOLLOW);
  if (!log.ok()) return;
  if (Reserve(log->get(), kLogBytes)) Fill(log->get(), kLogBytes);
}

// Makes the file where there is none, and refuses what cannot be a database; true when it is empty.
absl::StatusOr<bool> ProbeFile(const std::string& path) {
  ASSIGN_OR_RETURN(const Fd fd,
                   OpenFile(path.c_str(), O_RDWR | O_CREAT | O_NOCTTY | O_NONBLOCK, 0600));
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return PosixStatus(errno, "fstat", path);
  if (!S_ISREG(info.st_mode)) return Foreign(path, "not a regular file");
  if (info.st_size == 0) {
    Reserve(fd.get(), kGrowthBytes);
    return true;
  }
  char magic[16];
  const ssize_t n = pread(fd.get(), magic, sizeof(magic), 0);
  if (n < 0) return PosixStatus(errno, "pread", path);
  if (absl::string_view(magic, static_cast<size_t>(n)) != kSqliteMagic)
    return Foreign(path, "it does not begin as an SQLite database");
  Reserve(fd.get(), info.st_size + kGrowthBytes);
  return false;
}

// A database that an agent began to make and did not finish is empty: no table, no marks.
absl::StatusOr<bool> IsBlank(SqliteDatabase* database) {
  ASSIGN_OR_RETURN(const int64_t tables,
                   database->QueryInteger("SELECT count(*) FROM sqlite_schema"));
  ASSIGN_OR_RETURN(const int64_t version, database->QueryInteger("PRAGMA user_version"));
  return tables == 0 && version == 0;
}

absl::Status CheckMarks(SqliteDatabase* database) {
  ASSIGN_OR_RETURN(const int64_t application, database->QueryInteger("PRAGMA application_id"));
  if (application != SqliteRegistry::kApplicationId)
    return Foreign(database->path(), absl::StrCat("application id ", application));
  ASSIGN_OR_RETURN(const int64_t version, database->QueryInteger("PRAGMA user_version"));
  if (version > SqliteRegistry::kSchemaVersion) return Newer(database->path(), version);
  if (version < 1) return CorruptRegistry(database->path(), "it has no schema version");
  return absl::OkStatus();
}

absl::Status CheckIntegrity(SqliteDatabase* database) {
  ASSIGN_OR_RETURN(const std::string verdict, database->QueryText("PRAGMA integrity_check(1)"));
  return verdict == "ok" ? absl::OkStatus() : CorruptRegistry(database->path(), verdict);
}

// Nothing is written before the file is known to be ours.
absl::Status CheckDatabase(SqliteDatabase* database, bool* blank) {
  RETURN_IF_ERROR(database->Execute("PRAGMA locking_mode=EXCLUSIVE"));
  ASSIGN_OR_RETURN(*blank, IsBlank(database));
  if (*blank) return absl::OkStatus();
  RETURN_IF_ERROR(CheckMarks(database));
  return CheckIntegrity(database);
}

absl::Status SetUp(SqliteDatabase* database) {
  bool blank = false;
  RETURN_IF_ERROR(CheckDatabase(database, &blank));
  ASSIGN_OR_RETURN(const std::string mode, database->QueryText("PRAGMA journal_mode=WAL"));
  if (mode != "wal")
    return WithReason(absl::InternalError(absl::StrCat("registry ", database->path(),
                                                       ": WAL is refused, mode is ", mode)),
                      "REGISTRY_IO");
  RETURN_IF_ERROR(database->Execute("PRAGMA synchronous=FULL"));
  return blank ? database->Execute(kCreateSchema) : absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteRegistry>> SqliteRegistry::Open(const std::string& path) {
  const absl::StatusOr<bool> empty = ProbeFile(path);
  if (!empty.ok())
    return WithReason(Annotate(empty.status(), "registry"), PosixErrno(empty.status()) == ENOSPC
                                                                ? "STATE_DIR_FULL"
                                                                : "REGISTRY_UNWRITABLE");
  ASSIGN_OR_RETURN(auto database, SqliteDatabase::Open(path));
  RETURN_IF_ERROR(SetUp(database.get()));
  auto registry = std::unique_ptr<SqliteRegistry>(new SqliteRegistry(std::move(database)));
  RETURN_IF_ERROR(registry->PrepareStatements());
  RETURN_IF_ERROR(registry->Load());
  ReserveLog(path);
  return registry;
}

absl::Status SqliteRegistry::PrepareStatements() {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(put_, database_->Prepare("INSERT OR REPLACE INTO vms(id, record) VALUES(?, ?)"));
  ASSIGN_OR_RETURN(delete_, database_->Prepare("DELETE FROM vms WHERE id = ?"));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<VmRecord>> SqliteRegistry::Load() {
  MutexLock lock(&mutex_);
  std::vector<VmRecord> records;
  ASSIGN_OR_RETURN(SqliteDatabase::Statement rows,
                   database_->Prepare("SELECT id, record FROM vms ORDER BY id"));
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, rows.Step());
    if (!row) return records;
    absl::StatusOr<VmRecord> record = DecodeRecord(rows.Text(1));
    if (!record.ok()) return CorruptRegistry(database_->path(), record.status().message());
    if (record->id != rows.Text(0))
      return CorruptRegistry(database_->path(), absl::StrCat("a record of ", record->id,
                                                             " is stored as ", rows.Text(0)));
    records.push_back(*std::move(record));
  }
}

absl::Status SqliteRegistry::SetDurability(Durability durability) {
  if (durability == durability_) return absl::OkStatus();
  RETURN_IF_ERROR(database_->Execute(durability == Durability::kDurable
                                         ? "PRAGMA synchronous=FULL"
                                         : "PRAGMA synchronous=NORMAL"));
  durability_ = durability;
  return absl::OkStatus();
}

absl::Status SqliteRegistry::Put(const VmRecord& record, Durability durability) {
  const std::string bytes = EncodeRecord(record);
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(SetDurability(durability));
  put_.BindText(1, record.id);
  put_.BindBlob(2, bytes);
  return put_.Run();
}

absl::Status SqliteRegistry::Delete(const std::string& id) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(SetDurability(Durability::kDurable));
  delete_.BindText(1, id);
  return delete_.Run();
}

}  // namespace drover
