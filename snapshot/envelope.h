#ifndef DROVER_SNAPSHOT_ENVELOPE_H_
#define DROVER_SNAPSHOT_ENVELOPE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "snapshot/architecture.h"

namespace drover {

// The file around a machine's state: a header of fixed size, the state, a checksum. Numbers are
// little-endian.
//
//   offset size
//        0    8  magic: 89 'D' 'R' 'V' 'X' '6' '4' 0A on x86-64, 89 'D' 'R' 'V' 'A' '6' '4' 0A on
//                aarch64. 89 and 0A do not survive a transfer as text.
//        8    2  format version, major: another one means other things
//       10    2  format version, minor: a higher one may hold what this reader must not ignore
//       12    4  flags: bits 0-15 must be understood, bits 16-31 may be ignored; none so far
//       16    4  bytes of this header: 128
//       20    4  bytes of the trailer: 8
//       24    8  bytes of the state
//       32    8  bytes of the whole file: header, state and trailer
//       40   56  producer: UTF-8 text, filled up with 0
//       96   32  reserved: 0, and ignored by a reader
//      128    n  the state: drover.snapshot.v1.MicrovmState (proto/snapshot/v1)
//    128+n    8  CRC-64/Jones (crc64.h) of everything before it
inline constexpr uint16_t kFormatMajor = 1;
inline constexpr uint16_t kFormatMinor = 0;
inline constexpr size_t kEnvelopeHeaderBytes = 128;
inline constexpr size_t kEnvelopeTrailerBytes = 8;
inline constexpr size_t kEnvelopeProducerBytes = 56;
inline constexpr uint64_t kMaxEnvelopeBytes = 128 << 20;
inline constexpr uint32_t kEnvelopeFlagsToUnderstand = 0xFFFF;

struct EnvelopeHeader {
  Architecture architecture = Architecture::kX86_64;
  uint16_t major = kFormatMajor;
  uint16_t minor = kFormatMinor;
  uint32_t flags = 0;
  uint32_t header_bytes = kEnvelopeHeaderBytes;
  uint32_t trailer_bytes = kEnvelopeTrailerBytes;
  uint64_t state_bytes = 0;
  uint64_t file_bytes = 0;
  std::string producer;  // such as "drover-vmm 0.1.0"; anything in a file that is not trusted
  bool operator==(const EnvelopeHeader&) const = default;
};

// The file of `state`. INVALID_ARGUMENT when it exceeds kMaxEnvelopeBytes, or `producer` its room.
absl::StatusOr<std::string> SealEnvelope(absl::string_view state, Architecture architecture,
                                         absl::string_view producer);

struct Envelope {
  EnvelopeHeader header;
  absl::string_view state;  // within the bytes that were opened
};

// Checks a whole file, in this order, and returns what it holds. The errors' reasons:
//   1. size     SNAPSHOT_TOO_LARGE (above kMaxEnvelopeBytes), SNAPSHOT_TRUNCATED (shorter than
//               header and trailer)
//   2. magic    SNAPSHOT_FOREIGN (no snapshot of Drover), SNAPSHOT_WRONG_ARCHITECTURE
//   3. version  SNAPSHOT_VERSION_UNSUPPORTED: the major version equal, the minor at most this one's
//   4. lengths  SNAPSHOT_TRUNCATED (the file ends early), SNAPSHOT_LENGTH_MISMATCH
//   5. CRC      SNAPSHOT_CRC_MISMATCH
//   6. flags    SNAPSHOT_FLAGS_UNSUPPORTED
// FAILED_PRECONDITION for a sound file that this reader cannot take, DATA_LOSS for a damaged one,
// INVALID_ARGUMENT for what is none. Each says what was found, and what would be right.
absl::StatusOr<Envelope> OpenEnvelope(absl::string_view file, Architecture expected);

// The same for a person who asks what a file is: all that can be read of it, and everything that is
// wrong. `bytes` is the beginning of a file of `file_bytes`, at least so much of it as
// kMaxEnvelopeBytes allows.
struct EnvelopeReport {
  std::optional<EnvelopeHeader> header;  // with the magic of either architecture
  absl::string_view state;               // as far as it is there
  bool state_whole = false;
  std::optional<uint64_t> crc_stored, crc_computed;  // where the file is whole
  std::vector<absl::Status> problems;                // in the order of the checks
};
EnvelopeReport InspectEnvelope(absl::string_view bytes, uint64_t file_bytes);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_ENVELOPE_H_
