#ifndef DROVER_SNAPSHOT_MICROVM_STATE_PROTO_H_
#define DROVER_SNAPSHOT_MICROVM_STATE_PROTO_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "snapshot/field_problem.h"
#include "snapshot/microvm_state.h"

namespace drover {

// The encoding of a drover.snapshot.v1.MicrovmState (proto/snapshot/v1), bounded by the same
// message's ranges. INVALID_ARGUMENT (SNAPSHOT_STATE_MALFORMED) with the field at fault for a model
// that no reader would take.
absl::StatusOr<std::string> SerializeMicrovmState(const MicrovmState& state);

// What bytes from a file or a peer say. INVALID_ARGUMENT (SNAPSHOT_STATE_MALFORMED), with the field
// at fault, its value and what would be right, for what is out of the ranges of proto/snapshot/v1.
// Takes memory of some times the size of `bytes`, whatever they are.
absl::StatusOr<MicrovmState> ParseMicrovmState(absl::string_view bytes);

// The same for a person: all that is wrong, and what can be read, of a part of the bytes too.
struct MicrovmStateReport {
  MicrovmState state;
  FieldProblems problems;
};
MicrovmStateReport InspectMicrovmState(absl::string_view bytes);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_MICROVM_STATE_PROTO_H_
