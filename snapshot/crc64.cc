#include "snapshot/crc64.h"

#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

namespace drover {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kPolynomial = 0x95AC9329AC4BC9B5;
constexpr size_t kSlices = 16;

using Table = std::array<uint64_t, 256>;

// kTables[n][b]: what byte b, with n bytes of 0 behind it, adds to the sum (Intel, "slicing-by-8").
constexpr std::array<Table, kSlices> MakeTables() {
  std::array<Table, kSlices> tables = {};
  for (uint64_t b = 0; b < 256; ++b) {
    uint64_t crc = b;
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ kPolynomial : crc >> 1;
    tables[0][b] = crc;
  }
  for (size_t n = 1; n < kSlices; ++n)
    for (size_t b = 0; b < 256; ++b)
      tables[n][b] = tables[n - 1][b] >> 8 ^ tables[0][tables[n - 1][b] & 0xFF];
  return tables;
}

constexpr std::array<Table, kSlices> kTables = MakeTables();

uint64_t Load(const char* from) {
  uint64_t word;
  memcpy(&word, from, sizeof(word));
  return word;
}

// Products of polynomials over GF(2) modulo the sum's; bit 63 is the coefficient of 1.
constexpr uint64_t Multiply(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  for (uint64_t bit = uint64_t{1} << 63; bit != 0; bit >>= 1) {
    if (a & bit) product ^= b;
    b = b & 1 ? b >> 1 ^ kPolynomial : b >> 1;
  }
  return product;
}

// kShifts[n]: x to the power of 8 * 2^n, which is 2^n bytes of 0.
constexpr std::array<uint64_t, 64> MakeShifts() {
  std::array<uint64_t, 64> shifts = {uint64_t{1} << 55};
  for (size_t n = 1; n < shifts.size(); ++n) shifts[n] = Multiply(shifts[n - 1], shifts[n - 1]);
  return shifts;
}

constexpr std::array<uint64_t, 64> kShifts = MakeShifts();

// The eight bytes of `word`, whose first is followed by `behind` more.
uint64_t Slice(uint64_t word, size_t behind) {
  uint64_t crc = 0;
  for (size_t i = 0; i < 8; ++i) crc ^= kTables[behind - i][word >> 8 * i & 0xFF];
  return crc;
}

}  // namespace

uint64_t Crc64(absl::string_view bytes, uint64_t crc) {
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  for (; end - at >= 16; at += 16) crc = Slice(crc ^ Load(at), 15) ^ Slice(Load(at + 8), 7);
  for (; at != end; ++at) crc = crc >> 8 ^ kTables[0][(crc ^ static_cast<uint8_t>(*at)) & 0xFF];
  return crc;
}

uint64_t Crc64Shift(uint64_t crc, uint64_t zeros) {
  if (crc == 0) return 0;
  for (size_t n = 0; zeros != 0; ++n, zeros >>= 1)
    if (zeros & 1) crc = Multiply(crc, kShifts[n]);
  return crc;
}

}  // namespace drover
