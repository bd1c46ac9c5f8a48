#include "snapshot/snapshot_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <random>
#include <string>

#include "snapshot/crc64.h"
#include "snapshot/testing/power_cut_layer.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kMemory[] = "the bytes of the guest's memory";
constexpr char kState[] = "the machine's state";

Manifest SampleManifest() {
  return {{{"memory", strlen(kMemory), Crc64(kMemory)}, {"state", strlen(kState), Crc64(kState)}}};
}

// As the worker does it: the memory in two writes.
absl::Status WriteSnapshot(FileLayer* layer, absl::string_view name) {
  ASSIGN_OR_RETURN(const std::unique_ptr<SnapshotWriter> writer,
                   SnapshotWriter::Create(layer, name));
  ASSIGN_OR_RETURN(const std::unique_ptr<OutputFile> memory, writer->CreateFile("memory"));
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(kMemory), strlen(kMemory));
  RETURN_IF_ERROR(memory->SetSize(bytes.size()));
  RETURN_IF_ERROR(memory->Write(10, bytes.subspan(10)));
  RETURN_IF_ERROR(memory->Write(0, bytes.first(10)));
  RETURN_IF_ERROR(memory->Sync());
  RETURN_IF_ERROR(writer->WriteFile("state", kState));
  return writer->Commit(SampleManifest());
}

void ExpectWhole(FileLayer* layer, absl::string_view name) {
  EXPECT_THAT(CheckSnapshot(layer, name, /*digests=*/true), IsOkAndHolds(SampleManifest()));
}

// ---- the manifest

TEST(Manifest, RoundTrip) {
  const std::string text = FormatManifest(SampleManifest());
  EXPECT_THAT(text, HasSubstr("drover-snapshot 1\nfile memory 31 "));
  EXPECT_THAT(ParseManifest(text), IsOkAndHolds(SampleManifest()));
  EXPECT_THAT(ParseManifest(FormatManifest({})), IsOkAndHolds(Manifest()));
}

TEST(Manifest, EachByteChangedOrCutIsDetected) {
  const std::string good = FormatManifest(SampleManifest());
  for (size_t i = 0; i < good.size(); ++i) {
    ASSERT_FALSE(ParseManifest(good.substr(0, i)).ok()) << i;
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 1 << bit);
      ASSERT_FALSE(ParseManifest(bad).ok()) << bad;
    }
  }
}

std::string Summed(const std::string& text) {
  const uint64_t crc = Crc64(text);
  char line[32];
  snprintf(line, sizeof(line), "crc64 %016lx\n", crc);
  return text + line;
}

TEST(Manifest, EveryLineWrong) {
  const char* const kLines[] = {
      "file memory 31\n",
      "file memory 31 0123456789abcdef extra\n",
      "file ../memory 31 0123456789abcdef\n",
      "file .hidden 31 0123456789abcdef\n",
      "file manifest 31 0123456789abcdef\n",
      "file memory -1 0123456789abcdef\n",
      "file memory 18446744073709551616 0123456789abcdef\n",
      "file memory 31 0123456789abcdeg\n",
      "file memory 31 123\n",
      "link memory 31 0123456789abcdef\n",
      "file a 1 0123456789abcdef\nfile a 1 0123456789abcdef\n",
      "\n",
      "file memory 31 0123456789abcdef",
  };
  for (const char* line : kLines)
    EXPECT_EQ(ReasonOf(ParseManifest(Summed(std::string("drover-snapshot 1\n") + line)).status()),
              "MANIFEST_DAMAGED")
        << line;
  EXPECT_EQ(ReasonOf(ParseManifest(Summed("drover-snapshot 2\n")).status()),
            "MANIFEST_VERSION_UNSUPPORTED");
  EXPECT_EQ(ReasonOf(ParseManifest("").status()), "MANIFEST_DAMAGED");
  EXPECT_EQ(ReasonOf(ParseManifest(std::string(20000, 'x')).status()), "MANIFEST_DAMAGED");
}

// ---- the store, on a disk that behaves

class Store : public testing::Test {
 protected:
  PowerCutLayer layer_;
};

TEST_F(Store, WriteListDelete) {
  ASSERT_OK(WriteSnapshot(&layer_, "one"));
  ASSERT_OK(WriteSnapshot(&layer_, "two"));
  EXPECT_THAT(ListSnapshots(&layer_), IsOkAndHolds(ElementsAre("one", "two")));
  ExpectWhole(&layer_, "one");
  ASSERT_OK(DeleteSnapshot(&layer_, "one"));
  EXPECT_THAT(ListSnapshots(&layer_), IsOkAndHolds(ElementsAre("two")));
  EXPECT_THAT(CheckSnapshot(&layer_, "one", false), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(DeleteSnapshot(&layer_, "one"), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(Store, NamesAndDuplicates) {
  for (const char* name : {"", ".x", "a/b", "..", "a b"})
    EXPECT_THAT(WriteSnapshot(&layer_, name), StatusIs(absl::StatusCode::kInvalidArgument)) << name;
  ASSERT_OK(WriteSnapshot(&layer_, "one"));
  EXPECT_THAT(WriteSnapshot(&layer_, "one"), StatusIs(absl::StatusCode::kAlreadyExists));
  ASSERT_OK_AND_ASSIGN(const auto writer, SnapshotWriter::Create(&layer_, "two"));
  EXPECT_THAT(SnapshotWriter::Create(&layer_, "two"), StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_F(Store, AbandonedLeavesNothing) {
  {
    ASSERT_OK_AND_ASSIGN(const auto writer, SnapshotWriter::Create(&layer_, "one"));
    ASSERT_OK(writer->WriteFile("state", kState));
    EXPECT_THAT(ListSnapshots(&layer_), IsOkAndHolds(IsEmpty()));
    EXPECT_THAT(writer->Commit(SampleManifest()), StatusIs(absl::StatusCode::kInvalidArgument))
        << "a file that was never made";
    EXPECT_THAT(writer->Commit({{{"state", 3, 0}}}), StatusIs(absl::StatusCode::kDataLoss));
  }
  EXPECT_THAT(layer_.List(""), IsOkAndHolds(IsEmpty()));
}

TEST_F(Store, AFullDiskAtAnyStepLeavesNothingAndTheOthers) {
  ASSERT_OK(WriteSnapshot(&layer_, "old"));
  const int before = layer_.operations();
  ASSERT_OK(WriteSnapshot(&layer_, "probe"));
  const int steps = layer_.operations() - before;
  ASSERT_OK(DeleteSnapshot(&layer_, "probe"));
  for (int step = 0; step < steps - 1; ++step) {
    layer_.FailAfter(step, ENOSPC);
    EXPECT_THAT(WriteSnapshot(&layer_, "new"), HasErrno(ENOSPC)) << step;
    layer_.FailAfter(PowerCutLayer::kNever, 0);
    ASSERT_OK(RecoverSnapshots(&layer_));
    EXPECT_THAT(layer_.List(""), IsOkAndHolds(ElementsAre("old"))) << step;
  }
  ExpectWhole(&layer_, "old");
  ASSERT_OK(WriteSnapshot(&layer_, "new"));
}

// ---- the power fails

using Unsynced = PowerCutLayer::Unsynced;

// Runs `change` on a store that holds "old", with the power failing after each of its operations,
// and looks at what is left; `done`: the change had returned OK.
void CutEverywhere(const std::function<absl::Status(FileLayer*)>& change,
                   const std::function<void(FileLayer*, bool done)>& check) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 12; ++round) {
    const Unsynced unsynced = round == 0   ? Unsynced::kLost
                              : round == 1 ? Unsynced::kKept
                                           : Unsynced::kRandom;
    for (int cut = 0;; ++cut) {
      SCOPED_TRACE(testing::Message() << "round " << round << ", cut after " << cut);
      PowerCutLayer layer;
      ASSERT_OK(WriteSnapshot(&layer, "old"));
      layer.CutAfter(cut);
      const bool done = change(&layer).ok();
      layer.PowerOn(unsynced, &random);
      ASSERT_OK(RecoverSnapshots(&layer));
      check(&layer, done);
      if (done) break;
    }
  }
}

TEST(PowerCut, AWrittenSnapshotIsWholeOrNotThereAndTheOldOneStays) {
  CutEverywhere([](FileLayer* layer) { return WriteSnapshot(layer, "new"); },
                [](FileLayer* layer, bool done) {
                  ExpectWhole(layer, "old");
                  ASSERT_OK_AND_ASSIGN(const std::vector<std::string> names, ListSnapshots(layer));
                  EXPECT_EQ(layer->List("")->size(), names.size()) << "nothing behind";
                  const bool there = names.size() == 2;
                  if (there) ExpectWhole(layer, "new");
                  EXPECT_TRUE(there || !done) << "what was promised stays";
                  if (there) return;
                  EXPECT_OK(WriteSnapshot(layer, "new")) << "it can be tried again";
                });
}

TEST(PowerCut, ADeletedSnapshotIsWholeOrGone) {
  CutEverywhere([](FileLayer* layer) { return DeleteSnapshot(layer, "old"); },
                [](FileLayer* layer, bool done) {
                  ASSERT_OK_AND_ASSIGN(const std::vector<std::string> names, ListSnapshots(layer));
                  EXPECT_EQ(layer->List("")->size(), names.size()) << "nothing behind";
                  if (!names.empty()) ExpectWhole(layer, "old");
                  EXPECT_TRUE(names.empty() || !done);
                });
}

// ---- a real disk

class RealStore : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/drover-store-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
    layer_ = *PosixFileLayer::Open(directory_.c_str());
  }
  void TearDown() override {
    const std::vector<std::string> names = *layer_->List("");
    for (const std::string& name : names) EXPECT_OK(layer_->RemoveDirectory(name));
    rmdir(directory_.c_str());
  }
  std::string Path(const std::string& name) const { return directory_ + "/" + name; }

  std::string directory_;
  std::unique_ptr<PosixFileLayer> layer_;
};

TEST_F(RealStore, WriteCheckDelete) {
  ASSERT_OK(WriteSnapshot(layer_.get(), "one"));
  ExpectWhole(layer_.get(), "one");
  struct stat stat;
  ASSERT_EQ(::stat(Path("one/memory").c_str(), &stat), 0);
  EXPECT_EQ(stat.st_mode & 0777, 0600u);
  ASSERT_EQ(::stat(Path("one").c_str(), &stat), 0);
  EXPECT_EQ(stat.st_mode & 0777, 0700u);
  EXPECT_THAT(WriteSnapshot(layer_.get(), "one"), StatusIs(absl::StatusCode::kAlreadyExists));
  ASSERT_OK(DeleteSnapshot(layer_.get(), "one"));
  EXPECT_THAT(layer_->List(""), IsOkAndHolds(IsEmpty()));
}

TEST_F(RealStore, DamageIsNamed) {
  ASSERT_OK(WriteSnapshot(layer_.get(), "one"));
  ASSERT_OK(WriteExisting(Path("one/memory").c_str(), "THE"));
  EXPECT_OK(CheckSnapshot(layer_.get(), "one", /*digests=*/false));
  EXPECT_THAT(CheckSnapshot(layer_.get(), "one", /*digests=*/true),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("file memory: its CRC-64 is")));
  ASSERT_EQ(truncate(Path("one/state").c_str(), 3), 0);
  EXPECT_THAT(CheckSnapshot(layer_.get(), "one", false),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr("file state: it has 3 bytes; the manifest says 19")));
  ASSERT_EQ(unlink(Path("one/state").c_str()), 0);
  EXPECT_THAT(CheckSnapshot(layer_.get(), "one", false),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("file state: missing")));
  ASSERT_EQ(symlink("memory", Path("one/state").c_str()), 0);
  EXPECT_FALSE(CheckSnapshot(layer_.get(), "one", false).ok()) << "links are not followed";
  ASSERT_EQ(unlink(Path("one/manifest").c_str()), 0);
  EXPECT_EQ(ReasonOf(CheckSnapshot(layer_.get(), "one", false).status()), "SNAPSHOT_FILE_DAMAGED");
}

TEST_F(RealStore, RecoverRemovesLeftovers) {
  ASSERT_OK(WriteSnapshot(layer_.get(), "one"));
  ASSERT_OK(layer_->MakeDirectory(".two.new"));
  ASSERT_OK(layer_->CreateFile(".two.new/memory"));
  ASSERT_OK(layer_->MakeDirectory(".three.old"));
  ASSERT_OK(RecoverSnapshots(layer_.get()));
  EXPECT_THAT(layer_->List(""), IsOkAndHolds(ElementsAre("one")));
}

}  // namespace
}  // namespace drover
