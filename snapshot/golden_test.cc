// The files of each format version, as its first writer wrote them: they load for ever.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "snapshot/compatibility.h"
#include "snapshot/describe.h"
#include "snapshot/envelope.h"
#include "snapshot/microvm_state_proto.h"
#include "snapshot/testing/sample_state.h"
#include "vmm/base/fd.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

constexpr char kFormat10[] = "snapshot/testdata/format_1_0.state";

std::string Path() {
  const char* root = getenv("TEST_SRCDIR");
  const char* workspace = getenv("TEST_WORKSPACE");
  if (root == nullptr || workspace == nullptr) return kFormat10;
  return std::string(root) + "/" + workspace + "/" + kFormat10;
}

TEST(Golden, Format10Loads) {
  ASSERT_OK_AND_ASSIGN(const std::string file, ReadSmallFile(Path().c_str()));
  ASSERT_OK_AND_ASSIGN(const Envelope envelope, OpenEnvelope(file, Architecture::kX86_64));
  EXPECT_EQ(envelope.header.major, 1);
  EXPECT_EQ(envelope.header.minor, 0);
  ASSERT_OK_AND_ASSIGN(const MicrovmState state, ParseMicrovmState(envelope.state));
  EXPECT_EQ(state, SampleState()) << Difference(state, SampleState());
  EXPECT_THAT(verify_compatible(state, SampleHost()), testing::IsEmpty());
  EXPECT_EQ(DescribeSnapshotFile(Path()).verdict, SnapshotVerdict::kSound);
}

// Not a test: how such a file is made. DROVER_WRITE_SNAPSHOTS=DIRECTORY bazel-bin/.../golden_test
TEST(Golden, Write) {
  const char* directory = getenv("DROVER_WRITE_SNAPSHOTS");
  if (directory == nullptr) return;
  MicrovmState diff = SmallState();
  diff.memory.diff = DiffMemory{{2}, {PageWords(8, 0x55)}};
  const auto write = [&](const char* name, const MicrovmState& state) {
    const std::string bytes = *SerializeMicrovmState(state);
    const std::string path = std::string(directory) + "/" + name;
    EXPECT_OK(ReplaceFile(path, bytes, 0644));
    EXPECT_OK(ReplaceFile(path + ".state",
                          *SealEnvelope(bytes, Architecture::kX86_64, "drover-vmm 0.1.0"), 0644));
  };
  write("sample", SampleState());
  write("small", SmallState());
  write("diff", diff);
}

// While 1.0 is what this program writes, it writes these bytes.
TEST(Golden, Format10IsWhatIsWritten) {
  if (kFormatMajor != 1 || kFormatMinor != 0) GTEST_SKIP() << "a later format is written";
  ASSERT_OK_AND_ASSIGN(const std::string file, ReadSmallFile(Path().c_str()));
  ASSERT_OK_AND_ASSIGN(const std::string state, SerializeMicrovmState(SampleState()));
  EXPECT_THAT(SealEnvelope(state, Architecture::kX86_64, "drover-vmm 0.1.0"), IsOkAndHolds(file));
}

}  // namespace
}  // namespace drover
