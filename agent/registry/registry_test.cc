#include "agent/registry/registry.h"

#include <fcntl.h>
#include <sched.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "agent/registry/fake_registry.h"
#include "agent/registry/record_proto.h"
#include "agent/registry/sqlite_registry.h"
#include "vmm/base/fd.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

VmRecord Record(const std::string& id) {
  VmRecord record;
  record.id = id;
  record.uid = "uid-of-" + id;
  record.spec = {4,
                 512,
                 "/images/k",
                 "/images/i",
                 "console=ttyS0",
                 {.memory_pages = {MemoryPages::k2M, true},
                  .dirty_log = {DirtyLogMode::kRing, false},
                  .snapshots = {SnapshotMode::kPaused, true},
                  .migration = {MigrationMode::kPostCopy, false}}};
  record.plan = {MemoryPages::k2M,
                 DirtyLogMode::kBitmap,
                 SnapshotMode::kPaused,
                 MigrationMode::kPreCopy,
                 {{"f", "w", "t", "c", "r"}, {"f2", "w2", "t2", "c2", "r2"}}};
  record.labels = {{"a", "1"}, {"b", ""}};
  record.state = VmState::kStopping;
  record.state_reason = "R";
  record.state_message = "m";
  record.create_time = 1700000000123456789;
  record.state_change_time = 1700000001123456789;
  record.generation = 7;
  record.boot_count = 3;
  record.boots_before = 2;
  record.instance_id = "i-1";
  record.request_id = "q";
  record.deleting = true;
  record.stop_deadline = 1700000002123456789;
  return record;
}

class TempDir {
 public:
  TempDir() {
    char name[] = "/tmp/drover-registry-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

TEST(RecordProtoTest, RoundTrip) {
  EXPECT_THAT(DecodeRecord(EncodeRecord(Record("a"))), IsOkAndHolds(Record("a")));
}

TEST(RecordProtoTest, RefusesWhatNoAgentWrites) {
  EXPECT_THAT(DecodeRecord("\xff\xff\xff"), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(DecodeRecord(""), StatusIs(absl::StatusCode::kDataLoss));
  VmRecord record = Record("a");
  record.state = static_cast<VmState>(9);
  EXPECT_THAT(DecodeRecord(EncodeRecord(record)), StatusIs(absl::StatusCode::kDataLoss));
}

// What every registry does.
class RegistryTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override { Reopen(); }
  void Reopen() {
    if (!GetParam()) {
      if (!registry_) registry_ = std::make_unique<FakeRegistry>();
      return;
    }
    registry_.reset();
    ASSERT_OK_AND_ASSIGN(registry_, SqliteRegistry::Open(directory_.File("registry.db")));
  }

  TempDir directory_;
  std::unique_ptr<Registry> registry_;
};

TEST_P(RegistryTest, BeginsEmpty) { EXPECT_THAT(registry_->Load(), IsOkAndHolds(IsEmpty())); }

TEST_P(RegistryTest, KeepsRecordsInOrder) {
  ASSERT_OK(registry_->Put(Record("b"), Durability::kDurable));
  ASSERT_OK(registry_->Put(Record("a"), Durability::kLazy));
  ASSERT_OK(registry_->Put(Record("c"), Durability::kDurable));
  Reopen();
  EXPECT_THAT(registry_->Load(), IsOkAndHolds(ElementsAre(Record("a"), Record("b"), Record("c"))));
}

TEST_P(RegistryTest, PutReplaces) {
  ASSERT_OK(registry_->Put(Record("a"), Durability::kDurable));
  VmRecord changed = Record("a");
  changed.generation = 8;
  ASSERT_OK(registry_->Put(changed, Durability::kLazy));
  Reopen();
  EXPECT_THAT(registry_->Load(), IsOkAndHolds(ElementsAre(changed)));
}

TEST_P(RegistryTest, DeleteForgets) {
  ASSERT_OK(registry_->Put(Record("a"), Durability::kDurable));
  ASSERT_OK(registry_->Delete("a"));
  ASSERT_OK(registry_->Delete("a"));
  Reopen();
  EXPECT_THAT(registry_->Load(), IsOkAndHolds(IsEmpty()));
}

INSTANTIATE_TEST_SUITE_P(All, RegistryTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Sqlite" : "Fake"; });

TEST(FakeRegistryTest, LosesPower) {
  FakeRegistry registry;
  ASSERT_OK(registry.Put(Record("a"), Durability::kLazy));
  ASSERT_OK(registry.Put(Record("b"), Durability::kDurable));
  ASSERT_OK(registry.Put(Record("c"), Durability::kLazy));
  registry.LosePower();
  EXPECT_THAT(registry.Load(), IsOkAndHolds(ElementsAre(Record("a"), Record("b"))));
}

class SqliteRegistryTest : public ::testing::Test {
 protected:
  void WriteFile(absl::string_view bytes) {
    ASSERT_OK_AND_ASSIGN(Fd fd, OpenFile(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600));
    ASSERT_OK(WriteAll(fd.get(), bytes));
  }
  std::string Bytes() { return *ReadSmallFile(path_.c_str(), 64 << 20); }
  void Sql(const char* sql) {
    auto database = SqliteDatabase::Open(path_);
    ASSERT_OK(database);
    ASSERT_OK((*database)->Execute(sql));
  }
  // Opening fails with this reason, names the file, and leaves it as it is.
  void ExpectRefused(const std::string& reason) {
    const std::string before = Bytes();
    const auto registry = SqliteRegistry::Open(path_);
    ASSERT_FALSE(registry.ok());
    EXPECT_EQ(ReasonOf(registry.status()), reason) << registry.status();
    EXPECT_THAT(std::string(registry.status().message()), HasSubstr(path_));
    EXPECT_EQ(Bytes(), before);
  }

  TempDir directory_;
  const std::string path_ = directory_.File("registry.db");
};

TEST_F(SqliteRegistryTest, FileIsTheOwnersAlone) {
  ASSERT_OK(SqliteRegistry::Open(path_));
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(SqliteRegistryTest, ForeignFilesAreRefused) {
  WriteFile("hello, this is no database at all\n");
  ExpectRefused("REGISTRY_FOREIGN");
  WriteFile("SQ");
  ExpectRefused("REGISTRY_FOREIGN");
}

TEST_F(SqliteRegistryTest, ForeignDatabaseIsRefused) {
  WriteFile("");
  Sql("CREATE TABLE cookies(x)");
  ExpectRefused("REGISTRY_FOREIGN");
}

TEST_F(SqliteRegistryTest, DirectoryIsRefused) {
  ASSERT_EQ(mkdir(path_.c_str(), 0700), 0);
  EXPECT_EQ(ReasonOf(SqliteRegistry::Open(path_).status()), "REGISTRY_UNWRITABLE");
}

TEST_F(SqliteRegistryTest, MissingDirectoryIsAnError) {
  const auto registry = SqliteRegistry::Open(directory_.File("no/registry.db"));
  EXPECT_THAT(registry, HasErrno(ENOENT));
}

TEST_F(SqliteRegistryTest, EmptyFileIsANewRegistry) {
  WriteFile("");
  ASSERT_OK_AND_ASSIGN(auto registry, SqliteRegistry::Open(path_));
  EXPECT_OK(registry->Put(Record("a"), Durability::kDurable));
}

TEST_F(SqliteRegistryTest, NewerSchemaIsRefused) {
  ASSERT_OK(SqliteRegistry::Open(path_));
  Sql("PRAGMA user_version=2");
  ExpectRefused("REGISTRY_NEWER");
}

TEST_F(SqliteRegistryTest, EveryTruncationAndManyFlipsAreSafe) {
  {
    ASSERT_OK_AND_ASSIGN(auto registry, SqliteRegistry::Open(path_));
    for (int i = 0; i < 40; ++i)
      ASSERT_OK(registry->Put(Record(absl::StrCat("vm", i)), Durability::kLazy));
  }
  const std::string good = Bytes();
  ASSERT_GT(good.size(), 8192u);
  int refused = 0;
  for (size_t size = 1; size < good.size(); size += 509) {
    WriteFile(good.substr(0, size));
    unlink((path_ + "-wal").c_str());
    const auto registry = SqliteRegistry::Open(path_);
    EXPECT_FALSE(registry.ok()) << size;
    EXPECT_THAT(std::string(registry.status().message()), HasSubstr(path_));
  }
  for (size_t at = 0; at < good.size(); at += 257) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x55);
    WriteFile(bad);
    unlink((path_ + "-wal").c_str());
    const auto registry = SqliteRegistry::Open(path_);
    if (registry.ok()) continue;  // a byte that nothing depends on, or inside a text
    ++refused;
    EXPECT_THAT(ReasonOf(registry.status()), HasSubstr("REGISTRY_")) << registry.status();
  }
  EXPECT_GT(refused, 0);
}

TEST_F(SqliteRegistryTest, DamagedRecordIsRefused) {
  ASSERT_OK(SqliteRegistry::Open(path_));
  Sql("INSERT INTO vms VALUES('a', x'ffffff')");
  const auto registry = SqliteRegistry::Open(path_);
  EXPECT_THAT(registry,
              StatusIs(absl::StatusCode::kDataLoss, AllOf(HasSubstr(path_), HasSubstr("restore"))));
  EXPECT_EQ(ReasonOf(registry.status()), "REGISTRY_CORRUPT");
}

TEST_F(SqliteRegistryTest, RecordUnderAnotherKeyIsRefused) {
  {
    ASSERT_OK_AND_ASSIGN(auto registry, SqliteRegistry::Open(path_));
    ASSERT_OK(registry->Put(Record("a"), Durability::kDurable));
  }
  Sql("UPDATE vms SET id='b'");
  EXPECT_EQ(ReasonOf(SqliteRegistry::Open(path_).status()), "REGISTRY_CORRUPT");
}

TEST_F(SqliteRegistryTest, SecondProcessIsRefused) {
  ASSERT_OK_AND_ASSIGN(auto registry, SqliteRegistry::Open(path_));
  const pid_t child = fork();
  if (child == 0)
    _exit(ReasonOf(SqliteRegistry::Open(path_).status()) == "REGISTRY_IN_USE" ? 0 : 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_OK(registry->Put(Record("a"), Durability::kDurable));
}

TEST_F(SqliteRegistryTest, LazyWritesSurviveTheProcess) {
  const pid_t child = fork();
  if (child == 0) {
    auto registry = SqliteRegistry::Open(path_);
    if (!registry.ok() || !(*registry)->Put(Record("d"), Durability::kDurable).ok()) _exit(1);
    if (!(*registry)->Put(Record("l"), Durability::kLazy).ok()) _exit(2);
    _exit(0);  // closes nothing in order
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_OK_AND_ASSIGN(auto registry, SqliteRegistry::Open(path_));
  EXPECT_THAT(registry->Load(), IsOkAndHolds(ElementsAre(Record("d"), Record("l"))));
}

// Runs `body` in a child that has a file system of that size at `directory`; its exit code.
int WithSmallDisk(const std::string& directory, const std::string& size,
                  const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNS) != 0 || mount("", "/", "", MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", directory.c_str(), "tmpfs", 0, ("size=" + size).c_str()) != 0)
      _exit(77);
    _exit(body());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

int FillAndCheck(const std::string& path) {
  auto registry = SqliteRegistry::Open(path);
  if (!registry.ok()) return 1;
  absl::Status status;
  int written = 0;
  for (; status.ok() && written < 1000; ++written)
    status = (*registry)->Put(Record(absl::StrCat("vm", 1000 + written)),
                              written % 2 ? Durability::kLazy : Durability::kDurable);
  if (status.ok() || ReasonOf(status) != "STATE_DIR_FULL") return 2;
  if (!absl::IsResourceExhausted(status)) return 3;
  const auto records = (*registry)->Load();
  if (!records.ok() || records->size() != static_cast<size_t>(written) - 1) return 4;
  registry->reset();
  const auto reopened = SqliteRegistry::Open(path);
  return reopened.ok() && (*reopened)->Load()->size() == records->size() ? 0 : 5;
}

// Others fill the disk; then 100 VMs change and go.
int WriteOnAFullDisk(const std::string& path) {
  auto registry = SqliteRegistry::Open(path);
  if (!registry.ok()) return 1;
  for (int i = 0; i < 100; ++i)
    if (!(*registry)->Put(Record(absl::StrCat("vm", i)), Durability::kLazy).ok()) return 2;
  std::ofstream filler(path + "-filler");
  filler << std::string(32 << 20, 'x') << std::flush;
  if (filler.good()) return 3;
  for (int round = 0; round < 20; ++round)
    for (int i = 0; i < 100; ++i)
      if (!(*registry)->Put(Record(absl::StrCat("vm", i)), Durability::kLazy).ok()) return 4;
  for (int i = 0; i < 100; ++i)
    if (!(*registry)->Delete(absl::StrCat("vm", i)).ok()) return 5;
  return 0;
}

TEST_F(SqliteRegistryTest, HasRoomOfItsOwnOnAFullDisk) {
  const int result =
      WithSmallDisk(directory_.File(""), "16m", [&] { return WriteOnAFullDisk(path_); });
  if (result == 77) GTEST_SKIP() << "needs root to mount a small file system";
  EXPECT_EQ(result, 0);
}

TEST_F(SqliteRegistryTest, FullDiskIsAnErrorThatChangesNothing) {
  const int result =
      WithSmallDisk(directory_.File(""), "256k", [&] { return FillAndCheck(path_); });
  if (result == 77) GTEST_SKIP() << "needs root to mount a small file system";
  EXPECT_EQ(result, 0);
}

}  // namespace
}  // namespace drover
