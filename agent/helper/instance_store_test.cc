#include "agent/helper/instance_store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "vmm/base/status_matchers.h"
#include "vmm/base/unix_channel.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class InstanceStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/drover-store-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    state_ = name;
    ASSERT_OK_AND_ASSIGN(store_, InstanceStore::Open(state_, getegid()));
  }
  void TearDown() override { std::filesystem::remove_all(state_); }

  std::vector<std::string> Entries() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(state_ + "/workers"))
      names.push_back(entry.path().filename());
    return names;
  }

  std::string state_;
  std::unique_ptr<InstanceStore> store_;
};

TEST_F(InstanceStoreTest, CreateListRemove) {
  ASSERT_OK(store_->Create({.instance_id = "b"}));
  ASSERT_OK(store_->Create({.instance_id = "a-1"}));
  EXPECT_EQ(ReasonOf(store_->Create({.instance_id = "b"}).status()), "INSTANCE_EXISTS");
  EXPECT_THAT(store_->List(), IsOkAndHolds(ElementsAre("a-1", "b")));
  EXPECT_OK(store_->Remove("b"));
  EXPECT_OK(store_->Remove("b"));
  EXPECT_THAT(store_->List(), IsOkAndHolds(ElementsAre("a-1")));
}

TEST_F(InstanceStoreTest, TheFilesAreWhatTheyAreFor) {
  ASSERT_OK_AND_ASSIGN(const InstanceFiles files, store_->Create({.instance_id = "a"}));
  ASSERT_OK_AND_ASSIGN(UnixChannel channel,
                       UnixChannel::Connect(state_ + "/workers/a/control.sock"));
  EXPECT_OK(AcceptUnix(files.control.get()));
  ASSERT_OK(WriteAll(files.log.get(), "line\n"));
  EXPECT_THAT(ReadSmallFile((state_ + "/workers/a/log").c_str()), IsOkAndHolds("line\n"));
  EXPECT_THAT(store_->ReadLastWords("a"), IsOkAndHolds(""));
  ASSERT_OK(WriteAll(files.last_words.get(), "words"));
  EXPECT_THAT(store_->ReadLastWords("a"), IsOkAndHolds("words"));
}

TEST_F(InstanceStoreTest, AnInstanceHasItsIdentityFromTheStart) {
  ASSERT_OK(store_->Create({.instance_id = "a",
                            .pid = 7,
                            .start_ticks = 8,
                            .boot_id = "boot",
                            .uid = 9,
                            .cgroup = "/drover/x",
                            .launch_time = 10}));
  ASSERT_OK_AND_ASSIGN(const WorkerIdentity read, store_->ReadIdentity("a"));
  EXPECT_EQ(read.pid, 7);
  EXPECT_EQ(read.start_ticks, 8u);
  EXPECT_EQ(read.boot_id, "boot");
  EXPECT_EQ(read.uid, 9u);
  EXPECT_EQ(read.cgroup, "/drover/x");
  EXPECT_EQ(read.launch_time, 10);
}

TEST_F(InstanceStoreTest, DraftsAreNoInstances) {
  ASSERT_OK(store_->Prepare());
  ASSERT_OK(store_->Prepare());
  EXPECT_EQ(store_->drafts(), 2u);
  EXPECT_THAT(store_->List(), IsOkAndHolds(IsEmpty()));
  ASSERT_OK(store_->Create({.instance_id = "a"}));
  EXPECT_EQ(store_->drafts(), 1u);
  EXPECT_EQ(ReasonOf(store_->Create({.instance_id = "a"}).status()), "INSTANCE_EXISTS");
  EXPECT_EQ(store_->drafts(), 0u);
  EXPECT_THAT(Entries(), ElementsAre("a"));
  ASSERT_OK(store_->Prepare());
  store_->DropDrafts();
  EXPECT_THAT(Entries(), ElementsAre("a"));
}

TEST_F(InstanceStoreTest, DraftsOfAnEarlierHelperGo) {
  ASSERT_OK(store_->Create({.instance_id = "a"}));
  ASSERT_OK(store_->Prepare());
  ASSERT_OK(InstanceStore::Open(state_, getegid()));
  EXPECT_THAT(Entries(), ElementsAre("a"));
}

TEST_F(InstanceStoreTest, AnotherInstancesIdentityIsDamage) {
  ASSERT_OK(store_->Create({.instance_id = "a"}));
  ASSERT_OK(store_->Create({.instance_id = "b"}));
  std::filesystem::copy(state_ + "/workers/a/identity", state_ + "/workers/b/identity",
                        std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(store_->ReadIdentity("b"), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(InstanceStoreTest, NoIdLeadsElsewhere) {
  for (const std::string& id :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("A"),
        std::string("a\0", 2), std::string(64, 'a')}) {
    EXPECT_EQ(ReasonOf(store_->Create({.instance_id = id}).status()), "INVALID_INSTANCE_ID") << id;
    EXPECT_EQ(ReasonOf(store_->Remove(id)), "INVALID_INSTANCE_ID") << id;
    EXPECT_EQ(ReasonOf(store_->ReadLastWords(id).status()), "INVALID_INSTANCE_ID") << id;
  }
  EXPECT_THAT(store_->List(), IsOkAndHolds(IsEmpty()));
}

TEST_F(InstanceStoreTest, TheTagIsTheDirectorysOwn) {
  ASSERT_OK_AND_ASSIGN(const auto again, InstanceStore::Open(state_, getegid()));
  EXPECT_EQ(again->tag(), store_->tag());
  EXPECT_EQ(again->tag().size(), 8u);
  const std::string other = state_ + "/other";
  ASSERT_EQ(mkdir(other.c_str(), 0755), 0);
  ASSERT_OK_AND_ASSIGN(const auto elsewhere, InstanceStore::Open(other, getegid()));
  EXPECT_NE(elsewhere->tag(), store_->tag());
}

TEST_F(InstanceStoreTest, ALinkIsNotFollowed) {
  const std::string other = state_ + "/other";
  ASSERT_EQ(mkdir(other.c_str(), 0755), 0);
  ASSERT_EQ(symlink("/etc", (other + "/workers").c_str()), 0);
  EXPECT_FALSE(InstanceStore::Open(other, getegid()).ok());
}

}  // namespace
}  // namespace drover
