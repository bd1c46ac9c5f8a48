#ifndef DROVER_VMM_BASE_STATUS_PROTO_H_
#define DROVER_VMM_BASE_STATUS_PROTO_H_

#include "absl/status/status.h"
#include "proto/worker/v1/common.pb.h"

namespace drover {

// A Status on its way between Drover's processes: code, message, reason, field and errno survive.
worker::v1::Status StatusToProto(const absl::Status& status);

// What the peer sent, which is not trusted: an unknown code becomes UNKNOWN, the message is cut at
// 4096 bytes, reason and field at 128.
absl::Status StatusFromProto(const worker::v1::Status& proto);

}  // namespace drover

#endif  // DROVER_VMM_BASE_STATUS_PROTO_H_
