#include "agent/service/rpc_error.h"

#include "absl/strings/str_cat.h"
#include "proto/google/rpc/error_details.pb.h"
#include "proto/google/rpc/status.pb.h"

namespace drover {
namespace {

constexpr const char* kCodeNames[] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

void ReadErrorInfo(const google::rpc::ErrorInfo& info, RpcError* error) {
  error->reason = info.reason();
  error->domain = info.domain();
  error->metadata = {info.metadata().begin(), info.metadata().end()};
}

void ReadBadRequest(const google::rpc::BadRequest& request, RpcError* error) {
  for (const auto& violation : request.field_violations())
    error->violations.push_back({violation.field(), violation.description()});
}

void ReadRetryInfo(const google::rpc::RetryInfo& retry, RpcError* error) {
  error->retry_delay = std::chrono::seconds(retry.retry_delay().seconds()) +
                       std::chrono::nanoseconds(retry.retry_delay().nanos());
}

void ReadPrecondition(const google::rpc::PreconditionFailure& failure, RpcError* error) {
  for (const auto& violation : failure.violations())
    error->preconditions.push_back(violation.description());
}

// Hands `any` to `read` when it is a Detail.
template <typename Detail>
void ReadIf(const google::protobuf::Any& any, void (*read)(const Detail&, RpcError*),
            RpcError* error) {
  Detail detail;
  if (any.Is<Detail>() && any.UnpackTo(&detail)) read(detail, error);
}

}  // namespace

RpcError DecodeRpcError(const grpc::Status& status) {
  RpcError error;
  error.code = status.error_code();
  error.message = status.error_message();
  google::rpc::Status proto;
  if (!proto.ParseFromString(status.error_details())) return error;
  for (const google::protobuf::Any& any : proto.details()) {
    ReadIf(any, ReadErrorInfo, &error);
    ReadIf(any, ReadBadRequest, &error);
    ReadIf(any, ReadRetryInfo, &error);
    ReadIf(any, ReadPrecondition, &error);
  }
  return error;
}

std::string CodeName(int code) {
  const auto index = static_cast<size_t>(code);
  if (index < std::size(kCodeNames)) return kCodeNames[index];
  return absl::StrCat("CODE_", code);
}

}  // namespace drover
