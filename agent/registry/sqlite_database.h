#ifndef DROVER_AGENT_REGISTRY_SQLITE_DATABASE_H_
#define DROVER_AGENT_REGISTRY_SQLITE_DATABASE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct sqlite3;
struct sqlite3_stmt;

namespace drover {

// One connection to one SQLite file, used by one thread at a time. Errors name the file and carry a
// reason: STATE_DIR_FULL, REGISTRY_CORRUPT, REGISTRY_IN_USE, REGISTRY_UNWRITABLE or REGISTRY_IO.
class SqliteDatabase {
 public:
  // A compiled statement. Bound blobs and texts must live until Finish.
  class Statement {
   public:
    Statement() = default;
    void BindText(int index, absl::string_view text);
    void BindBlob(int index, absl::string_view bytes);
    // True when a row is there, false at the end.
    absl::StatusOr<bool> Step();
    std::string Text(int column) const;
    int64_t Integer(int column) const;
    // Makes it ready to run again.
    void Finish();
    // Steps to the end, and finishes.
    absl::Status Run();

   private:
    friend class SqliteDatabase;
    struct Closer {
      void operator()(sqlite3_stmt* statement) const;
    };
    SqliteDatabase* database_ = nullptr;
    std::unique_ptr<sqlite3_stmt, Closer> statement_;
  };

  // Opens an existing file, which may be empty.
  static absl::StatusOr<std::unique_ptr<SqliteDatabase>> Open(const std::string& path);

  absl::StatusOr<Statement> Prepare(const char* sql);
  absl::Status Execute(const char* sql);
  absl::StatusOr<int64_t> QueryInteger(const char* sql);
  absl::StatusOr<std::string> QueryText(const char* sql);
  // The error of the call that just returned `code`.
  absl::Status Error(int code, absl::string_view doing) const;

  const std::string& path() const { return path_; }

 private:
  struct Closer {
    void operator()(sqlite3* connection) const;
  };
  explicit SqliteDatabase(std::string path) : path_(std::move(path)) {}

  const std::string path_;
  std::unique_ptr<sqlite3, Closer> connection_;
};

// DATA_LOSS (REGISTRY_CORRUPT) for the registry at `path`, with the remedy.
absl::Status CorruptRegistry(const std::string& path, absl::string_view detail);

}  // namespace drover

#endif  // DROVER_AGENT_REGISTRY_SQLITE_DATABASE_H_
