#include "snapshot/crc64.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>

namespace drover {
namespace {

uint64_t Slow(absl::string_view bytes) {
  uint64_t crc = 0;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0x95AC9329AC4BC9B5 : crc >> 1;
  }
  return crc;
}

TEST(Crc64, PublishedVectors) {
  EXPECT_EQ(Crc64(""), 0u);
  EXPECT_EQ(Crc64("123456789"), 0xE9C6D914C4B8D9CA);
  EXPECT_EQ(Crc64(std::string(16, 0x7B)), 0x29D5357216326566);
}

TEST(Crc64, EveryLengthAndPlaceAgreesWithTheDefinition) {
  std::mt19937_64 random(1);
  std::string bytes(300, 0);
  for (char& byte : bytes) byte = static_cast<char>(random());
  for (size_t from = 0; from < 17; ++from)
    for (size_t length = 0; from + length <= bytes.size(); length += 7)
      ASSERT_EQ(Crc64({bytes.data() + from, length}), Slow({bytes.data() + from, length}));
}

TEST(Crc64, InPieces) {
  const std::string bytes(1000, 'x');
  for (size_t cut = 0; cut <= bytes.size(); cut += 13)
    ASSERT_EQ(Crc64(bytes.substr(cut), Crc64(bytes.substr(0, cut))), Crc64(bytes));
}

TEST(Crc64, ShiftIsZerosBehind) {
  const uint64_t crc = Crc64("something");
  for (const size_t zeros : {0, 1, 2, 7, 8, 4096, 1'000'003})
    EXPECT_EQ(Crc64Shift(crc, zeros), Crc64(std::string(zeros, '\0'), crc)) << zeros;
  EXPECT_EQ(Crc64Shift(Crc64("abc"), 4) ^ Crc64("defg"), Crc64("abcdefg"));
  EXPECT_EQ(Crc64Shift(0, UINT64_MAX), 0u);
}

TEST(Crc64, WithItsTrailerIsZero) {
  std::string bytes = "some state";
  const uint64_t crc = Crc64(bytes);
  bytes.append(reinterpret_cast<const char*>(&crc), sizeof(crc));
  EXPECT_EQ(Crc64(bytes), 0u);
}

}  // namespace
}  // namespace drover
