#include "snapshot/envelope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "snapshot/crc64.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using testing::HasSubstr;

constexpr char kState[] = "the state of a machine";

std::string Sealed(absl::string_view state = kState) {
  return *SealEnvelope(state, Architecture::kX86_64, "drover-vmm 0.1.0");
}

template <typename T>
std::string With(std::string file, size_t at, T value) {
  memcpy(file.data() + at, &value, sizeof(value));
  return file;
}

// The file with a sum that is right for what it says.
std::string Summed(std::string file) {
  const uint64_t crc = Crc64({file.data(), file.size() - kEnvelopeTrailerBytes});
  memcpy(file.data() + file.size() - sizeof(crc), &crc, sizeof(crc));
  return file;
}

std::string ReasonFor(const std::string& file) {
  return ReasonOf(OpenEnvelope(file, Architecture::kX86_64).status());
}

TEST(Envelope, RoundTrip) {
  for (const Architecture architecture : {Architecture::kX86_64, Architecture::kAarch64}) {
    const std::string file = *SealEnvelope(kState, architecture, "drover-vmm 0.1.0");
    ASSERT_OK_AND_ASSIGN(const Envelope envelope, OpenEnvelope(file, architecture));
    EXPECT_EQ(envelope.state, kState);
    EXPECT_EQ(envelope.header.architecture, architecture);
    EXPECT_EQ(envelope.header.producer, "drover-vmm 0.1.0");
    EXPECT_EQ(envelope.header.file_bytes, file.size());
    EXPECT_EQ(Crc64(file), 0u);
  }
}

TEST(Envelope, LayoutIsAsDocumented) {
  const std::string file = Sealed();
  EXPECT_EQ(file.substr(0, 8),
            "\x89"
            "DRVX64\n");
  EXPECT_EQ(file.substr(8, 4), std::string("\1\0\0\0", 4));
  EXPECT_EQ(file.substr(16, 8), std::string("\x80\0\0\0\x08\0\0\0", 8));
  EXPECT_EQ(file[24], static_cast<char>(strlen(kState)));
  EXPECT_EQ(file.substr(40, 17), std::string("drover-vmm 0.1.0\0", 17));
  EXPECT_EQ(file.substr(128, strlen(kState)), kState);
  EXPECT_EQ(file.size(), 128 + strlen(kState) + 8);
}

TEST(Envelope, EmptyStateAndLongestProducer) {
  const std::string producer(kEnvelopeProducerBytes, 'p');
  ASSERT_OK_AND_ASSIGN(const std::string file, SealEnvelope("", Architecture::kX86_64, producer));
  ASSERT_OK_AND_ASSIGN(const Envelope envelope, OpenEnvelope(file, Architecture::kX86_64));
  EXPECT_EQ(envelope.state, "");
  EXPECT_EQ(envelope.header.producer, producer);
  EXPECT_THAT(SealEnvelope("", Architecture::kX86_64, producer + "p"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("57 bytes, at most 56")));
}

TEST(Envelope, EveryHeaderFieldWrong) {
  const std::string good = Sealed();
  const uint64_t state = strlen(kState), file = good.size();
  const struct {
    std::string bytes;
    const char* reason;
    const char* message;
  } kCases[] = {
      {With(good, 0, 'x'), "SNAPSHOT_FOREIGN", "begins with 78 44"},
      {With(good, 7, '\r'), "SNAPSHOT_FOREIGN", "89 44 52 56 58 36 34 0d"},
      {With(good, 4, 'A'), "SNAPSHOT_WRONG_ARCHITECTURE",
       "of aarch64; this host's machines are x86_64"},
      {With<uint16_t>(good, 8, 2), "SNAPSHOT_VERSION_UNSUPPORTED", "format 2.0"},
      {With<uint16_t>(good, 8, 0), "SNAPSHOT_VERSION_UNSUPPORTED", "format 0.0"},
      {With<uint16_t>(good, 10, 1), "SNAPSHOT_VERSION_UNSUPPORTED",
       "format 1.1, written by 'drover-vmm 0.1.0'; this version of Drover reads 1.0 to 1.0"},
      {With<uint32_t>(good, 16, 127), "SNAPSHOT_LENGTH_MISMATCH", "header: the header says 127"},
      {With<uint32_t>(good, 16, 0), "SNAPSHOT_LENGTH_MISMATCH", "128 would be right"},
      {With<uint32_t>(good, 20, 4), "SNAPSHOT_LENGTH_MISMATCH", "trailer"},
      {With<uint64_t>(good, 24, state + 1), "SNAPSHOT_LENGTH_MISMATCH",
       "state: the header says 23"},
      {With<uint64_t>(good, 24, state - 1), "SNAPSHOT_LENGTH_MISMATCH", "22 would be right"},
      {With<uint64_t>(good, 24, UINT64_MAX), "SNAPSHOT_LENGTH_MISMATCH", "18446744073709551615"},
      {With<uint64_t>(good, 32, 0), "SNAPSHOT_LENGTH_MISMATCH", "file: the header says 0"},
      {With<uint64_t>(good, 32, UINT64_MAX), "SNAPSHOT_LENGTH_MISMATCH", "file"},
      {With<uint64_t>(good, 32, kMaxEnvelopeBytes + 1), "SNAPSHOT_LENGTH_MISMATCH", "134217729"},
      {With<uint64_t>(With<uint64_t>(good, 32, file + 5), 24, state + 5), "SNAPSHOT_TRUNCATED",
       "ends after 158 of its 163 bytes"},
      {With<uint64_t>(With<uint64_t>(good, 32, file - 5), 24, state - 5),
       "SNAPSHOT_LENGTH_MISMATCH", "158 would be right"},
      {With(good, 40, 'X'), "SNAPSHOT_CRC_MISMATCH", "its bytes give"},
      {With(good, 127, 'X'), "SNAPSHOT_CRC_MISMATCH", "CRC-64"},
      {With(good, 128, 'X'), "SNAPSHOT_CRC_MISMATCH", "CRC-64"},
      {With(good, file - 1, 'X'), "SNAPSHOT_CRC_MISMATCH", "CRC-64"},
      {With<uint32_t>(good, 12, 1), "SNAPSHOT_CRC_MISMATCH", "CRC-64"},
      {Summed(With<uint32_t>(good, 12, 0x8001)), "SNAPSHOT_FLAGS_UNSUPPORTED", "0x8001"},
  };
  for (const auto& c : kCases) {
    const absl::Status status = OpenEnvelope(c.bytes, Architecture::kX86_64).status();
    EXPECT_EQ(ReasonOf(status), c.reason) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
    EXPECT_FALSE(InspectEnvelope(c.bytes, c.bytes.size()).problems.empty() &&
                 absl::string_view(c.reason) != "SNAPSHOT_WRONG_ARCHITECTURE");
  }
}

TEST(Envelope, WhatMayBeIgnoredIs) {
  EXPECT_EQ(ReasonFor(Summed(With<uint32_t>(Sealed(), 12, 0x10000))), "");
  EXPECT_EQ(ReasonFor(Summed(With(Sealed(), 96, 'r'))), "") << "reserved bytes";
}

TEST(Envelope, TheFirstCheckThatFailsNamesTheError) {
  // Everything is wrong; mended one after the other, each next check speaks.
  std::string file = Sealed();
  file.back() ^= 1;
  file = With<uint64_t>(file, 24, 7);
  file = With<uint16_t>(file, 8, 9);
  file = With(file, 4, 'A');
  EXPECT_EQ(ReasonFor(file), "SNAPSHOT_WRONG_ARCHITECTURE");
  file = With(file, 4, 'X');
  EXPECT_EQ(ReasonFor(file), "SNAPSHOT_VERSION_UNSUPPORTED");
  file = With<uint16_t>(file, 8, 1);
  EXPECT_EQ(ReasonFor(file), "SNAPSHOT_LENGTH_MISMATCH");
  file = With<uint64_t>(file, 24, strlen(kState));
  EXPECT_EQ(ReasonFor(file), "SNAPSHOT_CRC_MISMATCH");
  EXPECT_EQ(ReasonFor(Summed(file)), "");
}

TEST(Envelope, TruncatedAtEveryByte) {
  const std::string file = Sealed();
  for (size_t size = 0; size < file.size(); ++size) {
    ASSERT_EQ(ReasonFor(file.substr(0, size)), "SNAPSHOT_TRUNCATED") << size;
    const EnvelopeReport report = InspectEnvelope(file.substr(0, size), size);
    ASSERT_FALSE(report.problems.empty());
    for (const absl::Status& problem : report.problems)
      ASSERT_EQ(ReasonOf(problem), "SNAPSHOT_TRUNCATED") << size << problem;
    ASSERT_EQ(report.header.has_value(), size >= kEnvelopeHeaderBytes);
  }
}

TEST(Envelope, LongerByAnything) {
  EXPECT_EQ(ReasonFor(Sealed() + '\0'), "SNAPSHOT_LENGTH_MISMATCH");
  EXPECT_EQ(ReasonFor(Sealed() + Sealed()), "SNAPSHOT_LENGTH_MISMATCH");
}

TEST(Envelope, EachBitFlippedIsDetected) {
  const std::string good = Sealed(std::string(300, 's'));
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string file = good;
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ 1 << bit % 8);
    ASSERT_NE(ReasonFor(file), "") << "bit " << bit;
    ASSERT_FALSE(InspectEnvelope(file, file.size()).problems.empty()) << "bit " << bit;
  }
}

TEST(Envelope, SizeCapComesFirst) {
  EXPECT_EQ(ReasonFor(std::string(kMaxEnvelopeBytes + 1, 'x')), "SNAPSHOT_TOO_LARGE");
  EXPECT_EQ(ReasonFor(std::string(kMaxEnvelopeBytes, 'x')), "SNAPSHOT_FOREIGN");
  EXPECT_THAT(SealEnvelope(std::string(kMaxEnvelopeBytes - 135, 'x'), Architecture::kX86_64, "p"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_OK(SealEnvelope(std::string(kMaxEnvelopeBytes - 136, 'x'), Architecture::kX86_64, "p"));
}

TEST(Envelope, SaysWhatAForeignFileLooksLike) {
  const struct {
    std::string begins;
    const char* name;
  } kCases[] = {{"\x7f"
                 "ELF",
                 "ELF"},
                {"QFI\xfb", "qcow2"},
                {"QEVM", "QEMU"},
                {std::string("\0\0\x64\x86\x84\x19\x10\x07", 8), "Firecracker"},
                {std::string(8, '\0'), "memory file"}};
  for (const auto& c : kCases)
    EXPECT_THAT(OpenEnvelope(c.begins + std::string(200, 'x'), Architecture::kX86_64),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.name)));
}

TEST(Envelope, InspectionTellsAllThatIsWrong) {
  std::string file = With<uint32_t>(With<uint16_t>(Sealed(), 10, 3), 12, 2);
  const EnvelopeReport report = InspectEnvelope(file, file.size());
  std::vector<std::string> reasons;
  for (const absl::Status& problem : report.problems) reasons.push_back(ReasonOf(problem));
  EXPECT_THAT(reasons, testing::ElementsAre("SNAPSHOT_VERSION_UNSUPPORTED", "SNAPSHOT_CRC_MISMATCH",
                                            "SNAPSHOT_FLAGS_UNSUPPORTED"));
  EXPECT_EQ(report.state, kState);
  EXPECT_TRUE(report.state_whole);
  EXPECT_NE(report.crc_stored, report.crc_computed);
}

}  // namespace
}  // namespace drover
