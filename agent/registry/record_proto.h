#ifndef DROVER_AGENT_REGISTRY_RECORD_PROTO_H_
#define DROVER_AGENT_REGISTRY_RECORD_PROTO_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/registry/vm_record.h"

namespace drover {

// A record as the registry stores it: a serialized registry.v1.VmRecord.
std::string EncodeRecord(const VmRecord& record);

// DATA_LOSS for bytes that are no record, or one that no agent writes (no id, no uid, an unknown
// state).
absl::StatusOr<VmRecord> DecodeRecord(absl::string_view bytes);

}  // namespace drover

#endif  // DROVER_AGENT_REGISTRY_RECORD_PROTO_H_
