#ifndef DROVER_AGENT_SERVICE_VM_PROTO_H_
#define DROVER_AGENT_SERVICE_VM_PROTO_H_

#include <chrono>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/errors/field_violations.h"
#include "agent/vms/vm_backend.h"
#include "proto/drover/v1/vm.pb.h"

namespace drover {

// Between drover.v1 messages and the model.

void VmToProto(const VmView& vm, v1::Vm* proto);
void VmPageToProto(const VmPage& page, v1::ListVmsResponse* proto);

// What the request asks for, as far as it says.
CreateVmParams CreateVmParamsFromProto(const v1::CreateVmRequest& proto);
// What is wrong with the message itself: output-only fields that are set, vm or vm.spec missing.
// Values are the backend's to judge.
std::vector<FieldViolation> CheckCreateVmRequest(const v1::CreateVmRequest& proto);

// 30 s where unset; INVALID_ARGUMENT (field grace) outside of 0 to 3600 s.
absl::StatusOr<std::chrono::nanoseconds> GraceFromProto(const v1::StopVmRequest& proto);

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_VM_PROTO_H_
