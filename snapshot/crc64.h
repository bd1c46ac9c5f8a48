#ifndef DROVER_SNAPSHOT_CRC64_H_
#define DROVER_SNAPSHOT_CRC64_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace drover {

// CRC-64/Jones of `bytes`: reflected polynomial 0x95AC9329AC4BC9B5, initial value 0, no final
// change. "123456789" gives 0xE9C6D914C4B8D9CA. `crc` is that of the bytes before, so that a file
// can be summed in pieces. Bytes followed by their CRC in little-endian order sum to 0.
uint64_t Crc64(absl::string_view bytes, uint64_t crc = 0);

// The sum of bytes that sum to `crc`, followed by `zeros` bytes of 0: in a few steps, whatever
// their number. Crc64Shift(a, n) ^ b is the sum of bytes that sum to a, followed by n that sum to
// b.
uint64_t Crc64Shift(uint64_t crc, uint64_t zeros);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_CRC64_H_
