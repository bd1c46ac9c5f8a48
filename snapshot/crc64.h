#ifndef DROVER_SNAPSHOT_CRC64_H_
#define DROVER_SNAPSHOT_CRC64_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace drover {

// CRC-64/Jones of `bytes`: reflected polynomial 0x95AC9329AC4BC9B5, initial value 0, no final
// change. "123456789" gives 0xE9C6D914C4B8D9CA. `crc` is that of the bytes before, so that a file
// can be summed in pieces. Bytes followed by their CRC in little-endian order sum to 0.
uint64_t Crc64(absl::string_view bytes, uint64_t crc = 0);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_CRC64_H_
