#ifndef DROVER_SNAPSHOT_STATE_SHAPE_H_
#define DROVER_SNAPSHOT_STATE_SHAPE_H_

#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "snapshot/field_problem.h"

namespace drover {

// The encoded bytes of a MicrovmState as they are, before a parser makes objects of them: a
// parser would take a message twice, a number of the wrong type, or a hundred million empty vCPUs.
struct StateShape {
  FieldProblems problems;
  bool bounded = true;  // a parser takes some times the memory of the bytes at most
  std::map<std::string, std::string> unknown_fields;  // as MicrovmState's
};
// Walks the known messages, and goes on behind what is wrong in one of them as far as that can be.
StateShape WalkState(absl::string_view bytes);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_STATE_SHAPE_H_
