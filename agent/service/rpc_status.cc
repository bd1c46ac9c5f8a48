#include "agent/service/rpc_status.h"

#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "agent/errors/field_violations.h"
#include "agent/service/rpc_error.h"
#include "agent/service/utf8.h"
#include "proto/google/rpc/error_details.pb.h"
#include "proto/google/rpc/status.pb.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr char kDomain[] = "drover";
constexpr size_t kMaxMessageBytes = 768;
constexpr size_t kMaxDescriptionBytes = 400;
constexpr size_t kMaxFieldBytes = 128;
constexpr size_t kMaxReasonBytes = 63;  // AIP-193
constexpr size_t kMaxMetadataValueBytes = 128;
constexpr size_t kMaxMetadataPairs = 6;
constexpr size_t kSpareBytes = 96;  // for the count of what was left out

// grpc-message's length on the wire (gRPC over HTTP/2, Percent-Encoded).
size_t PercentEncodedSize(absl::string_view text) {
  size_t size = 0;
  for (const unsigned char c : text) size += (c >= 0x20 && c <= 0x7e && c != '%') ? 1 : 3;
  return size;
}

size_t TrailerBytes(const google::rpc::Status& proto) {
  return PercentEncodedSize(proto.message()) + (proto.ByteSizeLong() + 2) / 3 * 4;
}

std::string ReasonOrCode(const absl::Status& status) {
  const std::string reason = ReasonOf(status);
  if (!reason.empty()) return CleanUtf8(reason, kMaxReasonBytes);
  return CodeName(static_cast<int>(status.code()));
}

google::rpc::ErrorInfo MakeErrorInfo(const absl::Status& status, const ErrorMetadata& metadata) {
  google::rpc::ErrorInfo info;
  info.set_reason(ReasonOrCode(status));
  info.set_domain(kDomain);
  for (const auto& [key, value] : metadata) {
    if (value.empty() || info.metadata_size() == kMaxMetadataPairs) continue;
    (*info.mutable_metadata())[key] = CleanUtf8(value, kMaxMetadataValueBytes);
  }
  if (const std::string capability = CapabilityOf(status); !capability.empty())
    (*info.mutable_metadata())["capability"] = CleanUtf8(capability, kMaxMetadataValueBytes);
  return info;
}

google::rpc::RetryInfo MakeRetryInfo(std::chrono::nanoseconds delay) {
  google::rpc::RetryInfo retry;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(delay);
  retry.mutable_retry_delay()->set_seconds(seconds.count());
  retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>((delay - seconds).count()));
  return retry;
}

google::rpc::PreconditionFailure MakePrecondition(const absl::Status& status,
                                                  const ErrorMetadata& metadata) {
  google::rpc::PreconditionFailure failure;
  auto* violation = failure.add_violations();
  violation->set_type(ReasonOrCode(status));
  const auto vm_id = metadata.find("vm_id");
  if (vm_id != metadata.end())
    violation->set_subject(CleanUtf8(absl::StrCat("vms/", vm_id->second), kMaxMetadataValueBytes));
  violation->set_description(CleanUtf8(
      absl::string_view(status.message().data(), status.message().size()), kMaxDescriptionBytes));
  return failure;
}

std::vector<FieldViolation> ViolationsOf(const absl::Status& status) {
  std::vector<FieldViolation> violations = FieldViolations(status);
  if (violations.empty() && !FieldOf(status).empty())
    violations.push_back({FieldOf(status), std::string(status.message())});
  return violations;
}

void AddViolation(google::rpc::BadRequest* request, absl::string_view field,
                  absl::string_view description) {
  auto* violation = request->add_field_violations();
  violation->set_field(CleanUtf8(field, kMaxFieldBytes));
  violation->set_description(CleanUtf8(description, kMaxDescriptionBytes));
}

// As many violations as fit beside what `proto` holds already.
google::rpc::BadRequest MakeBadRequest(const std::vector<FieldViolation>& violations,
                                       const google::rpc::Status& proto) {
  google::rpc::BadRequest request;
  const size_t room = kMaxStatusTrailerBytes - TrailerBytes(proto) - kSpareBytes * 4 / 3;
  for (size_t i = 0; i < violations.size(); ++i) {
    AddViolation(&request, violations[i].field, violations[i].description);
    if ((request.ByteSizeLong() + kSpareBytes) * 4 / 3 <= room) continue;
    request.mutable_field_violations()->RemoveLast();
    AddViolation(&request, "", absl::StrCat(violations.size() - i, " more fields are wrong"));
    break;
  }
  return request;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status, const ErrorMetadata& metadata) {
  if (status.ok()) return grpc::Status::OK;
  google::rpc::Status proto;
  proto.set_code(static_cast<int>(status.code()));
  proto.set_message(CleanUtf8(std::string(status.message()), kMaxMessageBytes));
  proto.add_details()->PackFrom(MakeErrorInfo(status, metadata));
  if (status.code() == absl::StatusCode::kFailedPrecondition)
    proto.add_details()->PackFrom(MakePrecondition(status, metadata));
  const std::optional<std::chrono::nanoseconds> delay = RetryDelay(status);
  if (delay.has_value()) proto.add_details()->PackFrom(MakeRetryInfo(*delay));
  const std::vector<FieldViolation> violations = ViolationsOf(status);
  if (status.code() == absl::StatusCode::kInvalidArgument && !violations.empty())
    proto.add_details()->PackFrom(MakeBadRequest(violations, proto));
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), proto.message(),
                      proto.SerializeAsString());
}

}  // namespace drover
