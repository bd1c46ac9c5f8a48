#include "snapshot/envelope.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "snapshot/crc64.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr size_t kMagicBytes = 8;
constexpr absl::string_view kMagics[] = {{"\x89"
                                          "DRVX64\n",
                                          kMagicBytes},
                                         {"\x89"
                                          "DRVA64\n",
                                          kMagicBytes}};
constexpr size_t kLeastBytes = kEnvelopeHeaderBytes + kEnvelopeTrailerBytes;

// Where the header's fields are.
constexpr size_t kMajorAt = 8, kMinorAt = 10, kFlagsAt = 12, kHeaderBytesAt = 16;
constexpr size_t kTrailerBytesAt = 20, kStateBytesAt = 24, kFileBytesAt = 32, kProducerAt = 40;

template <typename T>
T Get(absl::string_view bytes, size_t at) {
  T value;
  memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

template <typename T>
void Put(std::string* bytes, size_t at, T value) {
  memcpy(bytes->data() + at, &value, sizeof(value));
}

// Files that are taken for a snapshot by mistake.
struct KnownFile {
  absl::string_view begins;
  absl::string_view name;
};
constexpr KnownFile kKnownFiles[] = {
    {"\x7f"
     "ELF",
     "an ELF file, such as a kernel"},
    {"QFI\xfb", "a qcow2 disk"},
    {"QEVM", "a QEMU migration stream"},
    {"\x28\xb5\x2f\xfd", "a zstd file"},
    {"\x1f\x8b", "a gzip file"},
    {{"\x00\x00\x64\x86\x84\x19\x10\x07", 8}, "a Firecracker snapshot of x86-64"},
    {{"\x00\x00\xaa\xaa\x84\x19\x10\x07", 8}, "a Firecracker snapshot of aarch64"},
    {{"\0\0\0\0\0\0\0\0", 8}, "zeros, such as a memory file or a file that was never written"},
};

std::string GuessOf(absl::string_view bytes) {
  const auto* known = std::ranges::find_if(kKnownFiles, [&](const KnownFile& file) {
    return bytes.substr(0, file.begins.size()) == file.begins;
  });
  return known == std::end(kKnownFiles) ? "" : absl::StrCat("; it looks like ", known->name);
}

std::string Hex(absl::string_view bytes) {
  std::string out;
  for (const char byte : bytes)
    absl::StrAppendFormat(&out, "%s%02x", out.empty() ? "" : " ", static_cast<uint8_t>(byte));
  return out;
}

absl::Status Damaged(absl::string_view message, absl::string_view reason) {
  return WithReason(absl::DataLossError(message), reason);
}

absl::Status CheckSize(uint64_t file_bytes) {
  if (file_bytes > kMaxEnvelopeBytes)
    return WithReason(absl::InvalidArgumentError(absl::StrFormat(
                          "size: the file has %u bytes; a snapshot's state has at most %u",
                          file_bytes, kMaxEnvelopeBytes)),
                      "SNAPSHOT_TOO_LARGE");
  if (file_bytes < kLeastBytes)
    return Damaged(absl::StrFormat("size: the file has %u bytes; header and trailer alone have %u",
                                   file_bytes, kLeastBytes),
                   "SNAPSHOT_TRUNCATED");
  return absl::OkStatus();
}

std::optional<Architecture> ArchitectureOf(absl::string_view bytes) {
  for (const Architecture architecture : {Architecture::kX86_64, Architecture::kAarch64})
    if (bytes.substr(0, kMagicBytes) == kMagics[static_cast<int>(architecture)])
      return architecture;
  return std::nullopt;
}

// Of a file that ends within its magic nothing more can be said than that.
bool MayBecomeMagic(absl::string_view bytes) {
  return bytes.size() < kMagicBytes && std::ranges::any_of(kMagics, [&](absl::string_view magic) {
           return magic.substr(0, bytes.size()) == bytes;
         });
}

absl::Status CheckMagic(absl::string_view bytes) {
  if (ArchitectureOf(bytes) || MayBecomeMagic(bytes)) return absl::OkStatus();
  return WithReason(absl::InvalidArgumentError(absl::StrCat(
                        "magic: the file begins with ", Hex(bytes.substr(0, kMagicBytes)),
                        "; a snapshot's ", "state with ", Hex(kMagics[0]), " (x86_64) or ",
                        Hex(kMagics[1]), " (aarch64)", GuessOf(bytes))),
                    "SNAPSHOT_FOREIGN");
}

absl::Status CheckArchitecture(Architecture found, Architecture expected) {
  if (found == expected) return absl::OkStatus();
  return WithReason(
      absl::FailedPreconditionError(absl::StrCat("magic: the snapshot is of ", NameOf(found),
                                                 "; this host's machines are ", NameOf(expected))),
      "SNAPSHOT_WRONG_ARCHITECTURE");
}

absl::Status CheckVersion(const EnvelopeHeader& header) {
  if (header.major == kFormatMajor && header.minor <= kFormatMinor) return absl::OkStatus();
  return WithReason(
      absl::FailedPreconditionError(absl::StrFormat(
          "version: the file has format %d.%d, written by '%s'; this version of Drover reads %d.0 "
          "to %d.%d",
          header.major, header.minor, header.producer, kFormatMajor, kFormatMajor, kFormatMinor)),
      "SNAPSHOT_VERSION_UNSUPPORTED");
}

absl::Status Length(absl::string_view what, uint64_t found, uint64_t right) {
  return Damaged(absl::StrFormat("length: %s: the header says %u bytes; %u would be right", what,
                                 found, right),
                 "SNAPSHOT_LENGTH_MISMATCH");
}

absl::Status CheckLengths(const EnvelopeHeader& h, uint64_t file_bytes) {
  if (h.header_bytes != kEnvelopeHeaderBytes)
    return Length("header", h.header_bytes, kEnvelopeHeaderBytes);
  if (h.trailer_bytes != kEnvelopeTrailerBytes)
    return Length("trailer", h.trailer_bytes, kEnvelopeTrailerBytes);
  if (h.file_bytes < kLeastBytes || h.file_bytes > kMaxEnvelopeBytes)
    return Length("file", h.file_bytes, file_bytes);
  if (h.state_bytes != h.file_bytes - kLeastBytes)
    return Length("state", h.state_bytes, h.file_bytes - kLeastBytes);
  if (file_bytes < h.file_bytes)
    return Damaged(
        absl::StrFormat("length: the file ends after %u of its %u bytes", file_bytes, h.file_bytes),
        "SNAPSHOT_TRUNCATED");
  if (file_bytes > h.file_bytes) return Length("file", h.file_bytes, file_bytes);
  return absl::OkStatus();
}

absl::Status CheckCrc(uint64_t stored, uint64_t computed) {
  if (stored == computed) return absl::OkStatus();
  return Damaged(
      absl::StrFormat("CRC-64: the file says %016x, its bytes give %016x: it was changed "
                      "after it was written",
                      stored, computed),
      "SNAPSHOT_CRC_MISMATCH");
}

absl::Status CheckFlags(const EnvelopeHeader& header) {
  if ((header.flags & kEnvelopeFlagsToUnderstand) == 0) return absl::OkStatus();
  return WithReason(
      absl::FailedPreconditionError(absl::StrFormat(
          "flags: the file has %#x; this version of Drover knows none of bits 0-15", header.flags)),
      "SNAPSHOT_FLAGS_UNSUPPORTED");
}

// Of at least kEnvelopeHeaderBytes that begin with a magic.
EnvelopeHeader ReadHeader(absl::string_view bytes) {
  const absl::string_view producer = bytes.substr(kProducerAt, kEnvelopeProducerBytes);
  return {*ArchitectureOf(bytes),
          Get<uint16_t>(bytes, kMajorAt),
          Get<uint16_t>(bytes, kMinorAt),
          Get<uint32_t>(bytes, kFlagsAt),
          Get<uint32_t>(bytes, kHeaderBytesAt),
          Get<uint32_t>(bytes, kTrailerBytesAt),
          Get<uint64_t>(bytes, kStateBytesAt),
          Get<uint64_t>(bytes, kFileBytesAt),
          std::string(producer.substr(0, producer.find('\0')))};
}

std::string MakeHeader(const EnvelopeHeader& header) {
  std::string bytes(kEnvelopeHeaderBytes, '\0');
  const absl::string_view magic = kMagics[static_cast<int>(header.architecture)];
  bytes.replace(0, kMagicBytes, magic.data(), kMagicBytes);
  Put(&bytes, kMajorAt, header.major);
  Put(&bytes, kMinorAt, header.minor);
  Put(&bytes, kFlagsAt, header.flags);
  Put(&bytes, kHeaderBytesAt, header.header_bytes);
  Put(&bytes, kTrailerBytesAt, header.trailer_bytes);
  Put(&bytes, kStateBytesAt, header.state_bytes);
  Put(&bytes, kFileBytesAt, header.file_bytes);
  bytes.replace(kProducerAt, header.producer.size(), header.producer);
  return bytes;
}

void InspectCrc(absl::string_view bytes, EnvelopeReport* report) {
  const size_t summed = bytes.size() - kEnvelopeTrailerBytes;
  report->crc_stored = Get<uint64_t>(bytes, summed);
  report->crc_computed = Crc64(bytes.substr(0, summed));
  report->problems.push_back(CheckCrc(*report->crc_stored, *report->crc_computed));
}

// The rest of a file that has a header.
void InspectBody(absl::string_view bytes, uint64_t file_bytes, EnvelopeReport* report) {
  const EnvelopeHeader& header = *report->header;
  report->problems.push_back(CheckVersion(header));
  const absl::Status lengths = CheckLengths(header, file_bytes);
  report->problems.push_back(lengths);
  const absl::string_view rest = bytes.substr(kEnvelopeHeaderBytes);
  report->state = rest.substr(0, std::min<uint64_t>(header.state_bytes, rest.size()));
  report->state_whole = report->state.size() == header.state_bytes;
  if (lengths.ok() && bytes.size() == file_bytes) InspectCrc(bytes, report);
  report->problems.push_back(CheckFlags(header));
}

}  // namespace

absl::StatusOr<std::string> SealEnvelope(absl::string_view state, Architecture architecture,
                                         absl::string_view producer) {
  if (state.size() > kMaxEnvelopeBytes - kLeastBytes)
    return absl::InvalidArgumentError(
        absl::StrFormat("a state of %u bytes; a snapshot has room for %u", state.size(),
                        kMaxEnvelopeBytes - kLeastBytes));
  if (producer.size() > kEnvelopeProducerBytes)
    return absl::InvalidArgumentError(absl::StrCat("a producer of ", producer.size(),
                                                   " bytes, at most ", kEnvelopeProducerBytes));
  EnvelopeHeader header;
  header.architecture = architecture;
  header.state_bytes = state.size();
  header.file_bytes = kLeastBytes + state.size();
  header.producer = std::string(producer);
  std::string file = MakeHeader(header);
  absl::StrAppend(&file, state);
  const uint64_t crc = Crc64(file);
  file.append(reinterpret_cast<const char*>(&crc), sizeof(crc));
  return file;
}

absl::StatusOr<Envelope> OpenEnvelope(absl::string_view file, Architecture expected) {
  RETURN_IF_ERROR(CheckSize(file.size()));
  RETURN_IF_ERROR(CheckMagic(file));
  Envelope envelope = {ReadHeader(file), {}};
  RETURN_IF_ERROR(CheckArchitecture(envelope.header.architecture, expected));
  RETURN_IF_ERROR(CheckVersion(envelope.header));
  RETURN_IF_ERROR(CheckLengths(envelope.header, file.size()));
  const size_t summed = file.size() - kEnvelopeTrailerBytes;
  RETURN_IF_ERROR(CheckCrc(Get<uint64_t>(file, summed), Crc64(file.substr(0, summed))));
  RETURN_IF_ERROR(CheckFlags(envelope.header));
  envelope.state = file.substr(kEnvelopeHeaderBytes, envelope.header.state_bytes);
  return envelope;
}

EnvelopeReport InspectEnvelope(absl::string_view bytes, uint64_t file_bytes) {
  EnvelopeReport report;
  report.problems = {CheckSize(file_bytes), CheckMagic(bytes)};
  if (bytes.size() >= kEnvelopeHeaderBytes && ArchitectureOf(bytes)) {
    report.header = ReadHeader(bytes);
    InspectBody(bytes, file_bytes, &report);
  }
  std::erase_if(report.problems, [](const absl::Status& status) { return status.ok(); });
  return report;
}

}  // namespace drover
