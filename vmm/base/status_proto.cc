#include "vmm/base/status_proto.h"

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr size_t kMaxMessageBytes = 4096;
constexpr size_t kMaxWordBytes = 128;

absl::StatusCode CodeOf(int code) {
  if (code < 0 || code > static_cast<int>(absl::StatusCode::kUnauthenticated))
    return absl::StatusCode::kUnknown;
  return static_cast<absl::StatusCode>(code);
}

}  // namespace

worker::v1::Status StatusToProto(const absl::Status& status) {
  worker::v1::Status proto;
  proto.set_code(static_cast<int>(status.code()));
  proto.set_message(std::string(status.message()));
  proto.set_reason(ReasonOf(status));
  proto.set_field(FieldOf(status));
  proto.set_capability(CapabilityOf(status));
  proto.set_posix_error(PosixErrno(status).value_or(0));
  return proto;
}

absl::Status StatusFromProto(const worker::v1::Status& proto) {
  absl::Status status(CodeOf(proto.code()), proto.message().substr(0, kMaxMessageBytes));
  if (status.ok()) return status;
  if (proto.posix_error() != 0) status = WithPosixErrno(std::move(status), proto.posix_error());
  status = WithReason(std::move(status), proto.reason().substr(0, kMaxWordBytes));
  status = WithField(std::move(status), proto.field().substr(0, kMaxWordBytes));
  return WithCapability(std::move(status), proto.capability().substr(0, kMaxWordBytes));
}

}  // namespace drover
