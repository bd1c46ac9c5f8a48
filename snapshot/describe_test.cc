#include "snapshot/describe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "snapshot/envelope.h"
#include "snapshot/json_writer.h"
#include "snapshot/microvm_state_proto.h"
#include "snapshot/testing/sample_state.h"
#include "vmm/base/fd.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string SampleFile(const MicrovmState& state = SampleState()) {
  return *SealEnvelope(*SerializeMicrovmState(state), Architecture::kX86_64, "drover-vmm 0.1.0");
}

SnapshotDescription Describe(const std::string& file) {
  return DescribeSnapshot("some.state", file, file.size());
}

template <typename T>
std::string With(std::string file, size_t at, T value) {
  memcpy(file.data() + at, &value, sizeof(value));
  return file;
}

// Whether `text` is one JSON value: enough of RFC 8259 for what JsonWriter writes.
class JsonCheck {
 public:
  static bool Ok(absl::string_view text) {
    JsonCheck check(text);
    return check.Value() && check.Blank() && check.left_.empty();
  }

 private:
  explicit JsonCheck(absl::string_view text) : left_(text) {}
  bool Blank() {
    while (!left_.empty() && strchr(" \n", left_[0]) != nullptr) left_.remove_prefix(1);
    return true;
  }
  bool Take(absl::string_view token) {
    Blank();
    if (left_.substr(0, token.size()) != token) return false;
    left_.remove_prefix(token.size());
    return true;
  }
  bool String() {
    if (!Take("\"")) return false;
    while (!left_.empty() && left_[0] != '"') {
      if (static_cast<uint8_t>(left_[0]) < 0x20) return false;
      const size_t bytes = left_[0] == '\\' ? 6 : 1;
      if (bytes == 6 && left_.substr(0, 2) != "\\u") return false;
      left_.remove_prefix(std::min(bytes, left_.size()));
    }
    return Take("\"");
  }
  bool Number() {
    const size_t before = left_.size();
    while (!left_.empty() && left_[0] >= '0' && left_[0] <= '9') left_.remove_prefix(1);
    return left_.size() != before;
  }
  bool Members(bool keys, absl::string_view end) {
    if (Take(end)) return true;
    do {
      if (keys && !(String() && Take(":"))) return false;
      if (!Value()) return false;
    } while (Take(","));
    return Take(end);
  }
  bool Value() {
    if (Take("{")) return Members(true, "}");
    if (Take("[")) return Members(false, "]");
    if (Take("true") || Take("false") || Take("null")) return true;
    return !left_.empty() && left_[0] == '"' ? String() : Number();
  }
  absl::string_view left_;
};

TEST(JsonWriter, WritesAnyTextAsJson) {
  JsonWriter json;
  json.BeginObject();
  json.Text("a\"\\\n", "\x01\x7F\xC3\xA4\xE2\x82\xAC\xF0\x9F\x90\x91");
  json.Text("bad", "\xFF\xC0\x80\xED\xA0\x80\xE2\x82");
  json.BeginArray("list");
  json.Number("", UINT64_MAX);
  json.Bool("", false);
  json.Null("");
  json.End();
  json.BeginArray("none");
  json.End();
  json.End();
  EXPECT_EQ(
      json.text(),
      "{\n"
      "  \"a\\u0022\\u005c\\u000a\": \"\\u0001\\u007f\xC3\xA4\xE2\x82\xAC\xF0\x9F\x90\x91\",\n"
      "  \"bad\": \"\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\",\n"
      "  \"list\": [\n    18446744073709551615,\n    false,\n    null\n  ],\n"
      "  \"none\": []\n"
      "}\n");
  EXPECT_TRUE(JsonCheck::Ok(json.text()));
}

TEST(Describe, Sound) {
  const SnapshotDescription d = Describe(SampleFile());
  EXPECT_EQ(d.verdict, SnapshotVerdict::kSound) << d.json;
  EXPECT_TRUE(JsonCheck::Ok(d.json)) << d.json;
  for (const char* part :
       {"\"path\": \"some.state\"", "\"verdict\": \"sound\"", "\"problems\": []",
        "\"format_version\": \"1.0\"", "\"producer\": \"drover-vmm 0.1.0\"", "\"ok\": true",
        "\"trusted\": true", "\"whole\": true", "\"vm_id\": \"web-1\"", "\"vcpus\": 2",
        "\"cpu_vendor\": \"AuthenticAMD\"", "\"rip\": \"0x1011\"", "\"id\": \"disk-0\"",
        "\"path\": \"/images/root.img\"", "\"irqchip_state\": \"pc with pit\"",
        "\"image_id\": \"a0a1a2a3a4a5a6a7a8a9aaabacadaeaf\"", "\"start\": \"0x100000000\"",
        "\"mmds_bytes\": 20", "\"realtime_nanos\": 1790000000123456789"})
    EXPECT_THAT(d.json, HasSubstr(part));
}

TEST(Describe, Diff) {
  MicrovmState state = SmallState();
  state.memory.diff = DiffMemory{{2}, {PageWords(8)}};
  state.memory.diff->pages[0][1] = 0xF0;
  const SnapshotDescription d = Describe(SampleFile(state));
  EXPECT_THAT(d.json, HasSubstr("\"base_image_id\": \"02000000000000000000000000000000\""));
  EXPECT_THAT(d.json, HasSubstr("\"diff_pages\": 4"));
}

TEST(Describe, DamagedIsShownButNotTrusted) {
  std::string file = SampleFile();
  file[file.find("web-1")] = 'W';
  const SnapshotDescription d = Describe(file);
  EXPECT_EQ(d.verdict, SnapshotVerdict::kDamaged);
  EXPECT_THAT(d.json, HasSubstr("\"reason\": \"SNAPSHOT_CRC_MISMATCH\""));
  EXPECT_THAT(d.json, HasSubstr("\"ok\": false"));
  EXPECT_THAT(d.json, HasSubstr("\"trusted\": false"));
  EXPECT_THAT(d.json, HasSubstr("\"vm_id\": \"Web-1\""));
}

TEST(Describe, TruncatedAtEveryByte) {
  const std::string file = SampleFile();
  for (size_t size = 0; size < file.size(); size += size < 700 ? 1 : 97) {
    const SnapshotDescription d = Describe(file.substr(0, size));
    ASSERT_EQ(d.verdict, SnapshotVerdict::kDamaged) << size << d.json;
    ASSERT_THAT(d.json, HasSubstr("SNAPSHOT_TRUNCATED"));
    ASSERT_TRUE(JsonCheck::Ok(d.json)) << d.json;
  }
  const SnapshotDescription d = Describe(file.substr(0, file.size() - 100));
  EXPECT_THAT(d.json, HasSubstr("\"vm_id\": \"web-1\"")) << "what could be read";
  EXPECT_THAT(d.json, HasSubstr("\"whole\": false"));
  EXPECT_THAT(Describe(file.substr(0, file.size() - 1)).json, HasSubstr("\"whole\": true"));
}

TEST(Describe, Foreign) {
  const SnapshotDescription d = Describe(
      "\x7F"
      "ELF" +
      std::string(1000, 'x'));
  EXPECT_EQ(d.verdict, SnapshotVerdict::kForeign);
  EXPECT_THAT(d.json, HasSubstr("an ELF file"));
  EXPECT_THAT(d.json, HasSubstr("\"header\": null"));
  EXPECT_THAT(d.json, HasSubstr("\"state\": null"));
  EXPECT_EQ(Describe("hello").verdict, SnapshotVerdict::kForeign);
}

TEST(Describe, Newer) {
  const SnapshotDescription minor = Describe(With<uint16_t>(SampleFile(), 10, 7));
  EXPECT_EQ(minor.verdict, SnapshotVerdict::kUnsupported);
  EXPECT_THAT(minor.json, HasSubstr("\"format_version\": \"1.7\""));
  EXPECT_THAT(minor.json, HasSubstr("\"vm_id\": \"web-1\"")) << "the same major version";
  const SnapshotDescription major = Describe(With<uint16_t>(SampleFile(), 8, 2));
  EXPECT_EQ(major.verdict, SnapshotVerdict::kUnsupported);
  EXPECT_THAT(major.json, HasSubstr("\"producer\": \"drover-vmm 0.1.0\""));
  EXPECT_THAT(major.json, HasSubstr("\"state\": null"));
}

TEST(Describe, MalformedState) {
  const SnapshotDescription d = Describe(*SealEnvelope("\x08\x01", Architecture::kX86_64, "x"));
  EXPECT_EQ(d.verdict, SnapshotVerdict::kDamaged);
  EXPECT_THAT(d.json, HasSubstr("SNAPSHOT_STATE_MALFORMED"));
  EXPECT_THAT(d.json, HasSubstr("\"field\": \"vm_info\""));
}

TEST(Describe, ImpossibleState) {
  MicrovmState state = SampleState();
  state.vm_info.vcpus = 7;
  const SnapshotDescription d = Describe(SampleFile(state));
  EXPECT_EQ(d.verdict, SnapshotVerdict::kImpossible);
  EXPECT_THAT(d.json, HasSubstr("STATE_INVARIANT"));
  EXPECT_THAT(d.json, HasSubstr("the file has 2; right would be: 7, as vm_info.vcpus says"));
}

TEST(Describe, HostileTextStaysJson) {
  MicrovmState state = SampleState();
  state.vm_info.vm_id = "\"}\xFF\xC3";
  state.device_states[2].backing->path = "</script>\\\"\xE2\x80";
  const SnapshotDescription d = Describe(SampleFile(state));
  EXPECT_EQ(d.verdict, SnapshotVerdict::kSound) << "it need not be UTF-8";
  EXPECT_TRUE(JsonCheck::Ok(d.json)) << d.json;
  std::string file = SampleFile();
  memset(file.data() + 40, 0xFE, 56);
  EXPECT_TRUE(JsonCheck::Ok(Describe(file).json));
}

class DescribeFile : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/drover-describe-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override {
    unlink(Path("file").c_str());
    rmdir(directory_.c_str());
  }
  std::string Path(const std::string& name) const { return directory_ + "/" + name; }

  std::string directory_;
};

TEST_F(DescribeFile, Reads) {
  ASSERT_OK(ReplaceFile(Path("file"), SampleFile(), 0600));
  const SnapshotDescription d = DescribeSnapshotFile(Path("file"));
  EXPECT_EQ(d.verdict, SnapshotVerdict::kSound) << d.json;
  EXPECT_THAT(d.json, HasSubstr(Path("file")));
}

TEST_F(DescribeFile, MissingDirectoryOrPipe) {
  const SnapshotDescription missing = DescribeSnapshotFile(Path("file"));
  EXPECT_EQ(missing.verdict, SnapshotVerdict::kUnreadable);
  EXPECT_THAT(missing.json, HasSubstr("No such file"));
  EXPECT_THAT(missing.json, HasSubstr("\"size_bytes\": null"));
  EXPECT_EQ(DescribeSnapshotFile(directory_).verdict, SnapshotVerdict::kUnreadable);
  ASSERT_EQ(mkfifo(Path("file").c_str(), 0600), 0);
  EXPECT_THAT(DescribeSnapshotFile(Path("file")).json, HasSubstr("no regular file"));
}

TEST_F(DescribeFile, TooLargeIsNotRead) {
  ASSERT_OK(ReplaceFile(Path("file"), SampleFile(), 0600));
  ASSERT_EQ(truncate(Path("file").c_str(), int64_t{1} << 40), 0);
  const SnapshotDescription d = DescribeSnapshotFile(Path("file"));
  EXPECT_EQ(d.verdict, SnapshotVerdict::kDamaged);
  EXPECT_THAT(d.json, HasSubstr("SNAPSHOT_TOO_LARGE"));
  EXPECT_THAT(d.json, HasSubstr("\"producer\": \"drover-vmm 0.1.0\""));
}

}  // namespace
}  // namespace drover
