#include "agent/registry/sqlite_database.h"

#include <sqlite3.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

bool IsFull(int code, int system_errno) {
  const int primary = code & 0xff;
  return primary == SQLITE_FULL ||
         (primary == SQLITE_IOERR && (system_errno == ENOSPC || system_errno == EDQUOT));
}

absl::Status FullDisk(const std::string& path) {
  return WithReason(absl::ResourceExhaustedError(absl::StrCat(
                        "cannot write the registry ", path,
                        ": the state directory's file system is full; free space there and retry")),
                    "STATE_DIR_FULL");
}

absl::Status Unwritable(const std::string& path, absl::string_view detail) {
  return WithReason(absl::PermissionDeniedError(
                        absl::StrCat("cannot open the registry ", path, " for writing: ", detail,
                                     "; it and its directory must belong to the agent's user")),
                    "REGISTRY_UNWRITABLE");
}

absl::Status InUse(const std::string& path) {
  return WithReason(
      absl::FailedPreconditionError(absl::StrCat("the registry ", path,
                                                 " is in use by another process; end the other "
                                                 "agent (or sqlite3) first")),
      "REGISTRY_IN_USE");
}

}  // namespace

absl::Status CorruptRegistry(const std::string& path, absl::string_view detail) {
  return WithReason(
      absl::DataLossError(absl::StrCat(
          "the registry ", path, " is damaged: ", detail,
          "; restore it (with its -wal file) from a copy, or move both away to begin with no VMs, "
          "which ends every VM that still runs under this state directory")),
      "REGISTRY_CORRUPT");
}

void SqliteDatabase::Closer::operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }

void SqliteDatabase::Statement::Closer::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

absl::StatusOr<std::unique_ptr<SqliteDatabase>> SqliteDatabase::Open(const std::string& path) {
  auto database = std::unique_ptr<SqliteDatabase>(new SqliteDatabase(path));
  sqlite3* connection = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &connection,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nullptr);
  database->connection_.reset(connection);
  if (code != SQLITE_OK) return database->Error(code, "open");
  return database;
}

absl::Status SqliteDatabase::Error(int code, absl::string_view doing) const {
  const int system_errno = connection_ ? sqlite3_system_errno(connection_.get()) : 0;
  const char* text = connection_ ? sqlite3_errmsg(connection_.get()) : sqlite3_errstr(code);
  if (IsFull(code, system_errno)) return FullDisk(path_);
  switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return CorruptRegistry(path_, text);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return InUse(path_);
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
      return Unwritable(path_, text);
  }
  absl::Status status = absl::InternalError(
      absl::StrCat("registry ", path_, ": ", doing, ": ", text, " (SQLite error ", code, ")"));
  if (system_errno != 0) status = WithPosixErrno(std::move(status), system_errno);
  return WithReason(std::move(status), "REGISTRY_IO");
}

absl::StatusOr<SqliteDatabase::Statement> SqliteDatabase::Prepare(const char* sql) {
  sqlite3_stmt* compiled = nullptr;
  const int code =
      sqlite3_prepare_v3(connection_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &compiled, nullptr);
  if (code != SQLITE_OK) return Error(code, sql);
  Statement statement;
  statement.database_ = this;
  statement.statement_.reset(compiled);
  return statement;
}

absl::Status SqliteDatabase::Execute(const char* sql) {
  const int code = sqlite3_exec(connection_.get(), sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, sql);
}

absl::StatusOr<int64_t> SqliteDatabase::QueryInteger(const char* sql) {
  ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  ASSIGN_OR_RETURN(const bool row, statement.Step());
  return row ? statement.Integer(0) : 0;
}

absl::StatusOr<std::string> SqliteDatabase::QueryText(const char* sql) {
  ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  ASSIGN_OR_RETURN(const bool row, statement.Step());
  return row ? statement.Text(0) : std::string();
}

void SqliteDatabase::Statement::BindText(int index, absl::string_view text) {
  sqlite3_bind_text64(statement_.get(), index, text.data(), text.size(), SQLITE_STATIC,
                      SQLITE_UTF8);
}

void SqliteDatabase::Statement::BindBlob(int index, absl::string_view bytes) {
  sqlite3_bind_blob64(statement_.get(), index, bytes.data(), bytes.size(), SQLITE_STATIC);
}

absl::StatusOr<bool> SqliteDatabase::Statement::Step() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return database_->Error(code, sqlite3_sql(statement_.get()));
}

std::string SqliteDatabase::Statement::Text(int column) const {
  const void* bytes = sqlite3_column_blob(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return bytes == nullptr ? std::string()
                          : std::string(static_cast<const char*>(bytes), static_cast<size_t>(size));
}

int64_t SqliteDatabase::Statement::Integer(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

void SqliteDatabase::Statement::Finish() {
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
}

absl::Status SqliteDatabase::Statement::Run() {
  absl::StatusOr<bool> row = true;
  while (row.ok() && *row) row = Step();
  Finish();
  return row.status();
}

}  // namespace drover
