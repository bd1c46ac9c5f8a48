#ifndef DROVER_AGENT_REGISTRY_SQLITE_REGISTRY_H_
#define DROVER_AGENT_REGISTRY_SQLITE_REGISTRY_H_

#include <memory>
#include <string>
#include <vector>

#include "agent/registry/registry.h"
#include "agent/registry/sqlite_database.h"
#include "vmm/base/mutex.h"

namespace drover {

// The registry in one SQLite file: WAL, synchronous=FULL for durable writes (the WAL is fsynced by
// each) and NORMAL for lazy ones (it is not), one transaction a write. The connection holds the
// file exclusively. Thread-safe: writes take turns.
class SqliteRegistry : public Registry {
 public:
  // PRAGMA user_version of the files that this agent writes; PRAGMA application_id of all.
  static constexpr int kSchemaVersion = 1;
  static constexpr int kApplicationId = 0x44525652;  // "DRVR"

  // Opens or makes the registry at `path` and checks all of it. A file that is damaged
  // (REGISTRY_CORRUPT), not a registry (REGISTRY_FOREIGN), of a newer agent (REGISTRY_NEWER) or
  // held by another process (REGISTRY_IN_USE) is refused and left as it is.
  static absl::StatusOr<std::unique_ptr<SqliteRegistry>> Open(const std::string& path);

  absl::StatusOr<std::vector<VmRecord>> Load() override;
  absl::Status Put(const VmRecord& record, Durability durability) override;
  absl::Status Delete(const std::string& id) override;

 private:
  explicit SqliteRegistry(std::unique_ptr<SqliteDatabase> database)
      : database_(std::move(database)) {}
  absl::Status PrepareStatements();
  absl::Status SetDurability(Durability durability) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;
  const std::unique_ptr<SqliteDatabase> database_;
  SqliteDatabase::Statement put_ ABSL_GUARDED_BY(mutex_);
  SqliteDatabase::Statement delete_ ABSL_GUARDED_BY(mutex_);
  Durability durability_ ABSL_GUARDED_BY(mutex_) = Durability::kDurable;
};

}  // namespace drover

#endif  // DROVER_AGENT_REGISTRY_SQLITE_REGISTRY_H_
