#ifndef DROVER_AGENT_SERVICE_RPC_STATUS_H_
#define DROVER_AGENT_SERVICE_RPC_STATUS_H_

#include <grpcpp/support/status.h>

#include <map>
#include <string>

#include "absl/status/status.h"

namespace drover {

// What an error is about, for ErrorInfo.metadata: {"vm_id", "web-1"}.
using ErrorMetadata = std::map<std::string, std::string>;

// The most that a status may add to a call's trailers, as sent (percent-encoded message, base64
// details): clients take 8 KiB of metadata by default.
inline constexpr size_t kMaxStatusTrailerBytes = 7 * 1024;

// The status as the API sends it, with google.rpc details: ErrorInfo always (the status's reason,
// or its code's name where it has none), BadRequest with the fields of an INVALID_ARGUMENT,
// PreconditionFailure for a FAILED_PRECONDITION, RetryInfo where the status says when to come back.
// Text is cut to fit kMaxStatusTrailerBytes and made valid UTF-8; field violations that do not fit
// are counted in a last one.
grpc::Status ToGrpcStatus(const absl::Status& status, const ErrorMetadata& metadata = {});

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_RPC_STATUS_H_
