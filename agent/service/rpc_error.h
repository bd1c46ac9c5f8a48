#ifndef DROVER_AGENT_SERVICE_RPC_ERROR_H_
#define DROVER_AGENT_SERVICE_RPC_ERROR_H_

#include <grpcpp/support/status.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/errors/field_violations.h"

namespace drover {

// A failed call as its client sees it: ToGrpcStatus read back.
struct RpcError {
  grpc::StatusCode code = grpc::StatusCode::OK;
  std::string message;
  std::string reason;  // ErrorInfo's; "" when the server sent none
  std::string domain;
  std::map<std::string, std::string> metadata;
  std::vector<FieldViolation> violations;
  std::optional<std::chrono::nanoseconds> retry_delay;
  std::vector<std::string> preconditions;  // descriptions
};

// Details that cannot be read are left out.
RpcError DecodeRpcError(const grpc::Status& status);

// Of a grpc::StatusCode, or of any number that a peer sent as one: "NOT_FOUND" for NOT_FOUND;
// "CODE_99" for a number without a name.
std::string CodeName(int code);

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_RPC_ERROR_H_
