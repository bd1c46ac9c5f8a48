// Any bytes as a snapshot's state file, as the state in one, and as one that is sealed anew: they
// are refused with a reason, or give a state that is written and read back the same, that can be
// held against a host, and described.
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "snapshot/compatibility.h"
#include "snapshot/describe.h"
#include "snapshot/envelope.h"
#include "snapshot/microvm_state_proto.h"
#include "snapshot/testing/sample_state.h"
#include "vmm/base/status.h"

namespace {

const drover::HostProfile& Host() {
  static const auto* host = new drover::HostProfile(drover::SampleHost());
  return *host;
}

void CheckState(absl::string_view bytes) {
  const auto state = drover::ParseMicrovmState(bytes);
  if (!state.ok()) {
    DROVER_CHECK(drover::ReasonOf(state.status()) == "SNAPSHOT_STATE_MALFORMED");
    DROVER_CHECK(!drover::FieldOf(state.status()).empty());
    return;
  }
  const auto again = drover::SerializeMicrovmState(*state);
  DROVER_CHECK(again.ok());
  const auto back = drover::ParseMicrovmState(*again);
  DROVER_CHECK(back.ok() && *back == *state);
  for (const drover::Mismatch& mismatch : drover::verify_compatible(*state, Host()))
    DROVER_CHECK(!mismatch.reason.empty() && !mismatch.remedy.empty());
}

void CheckSealed(absl::string_view state) {
  const auto file = drover::SealEnvelope(state, drover::Architecture::kX86_64, "fuzz");
  DROVER_CHECK(file.ok());
  const auto envelope = drover::OpenEnvelope(*file, drover::Architecture::kX86_64);
  DROVER_CHECK(envelope.ok() && envelope->state == state);
  const drover::SnapshotDescription description =
      drover::DescribeSnapshot("fuzz", *file, file->size());
  DROVER_CHECK((description.verdict == drover::SnapshotVerdict::kDamaged) ==
               !drover::ParseMicrovmState(state).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto envelope = drover::OpenEnvelope(bytes, drover::Architecture::kX86_64);
  const auto description = drover::DescribeSnapshot("fuzz", bytes, size);
  if (!envelope.ok()) DROVER_CHECK(!drover::ReasonOf(envelope.status()).empty());
  if (description.verdict == drover::SnapshotVerdict::kSound)
    DROVER_CHECK(!description.json.empty());
  // Past the checksum, which a mutation hardly meets.
  const bool has_header =
      size >= drover::kEnvelopeHeaderBytes + drover::kEnvelopeTrailerBytes && data[0] == 0x89;
  const absl::string_view state =
      has_header ? bytes.substr(drover::kEnvelopeHeaderBytes,
                                size - drover::kEnvelopeHeaderBytes - drover::kEnvelopeTrailerBytes)
                 : bytes;
  CheckState(state);
  CheckSealed(state);
  return 0;
}
