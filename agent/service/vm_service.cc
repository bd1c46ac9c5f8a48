#include "agent/service/vm_service.h"

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "agent/errors/field_violations.h"
#include "agent/service/rpc_status.h"
#include "agent/service/vm_proto.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr size_t kMaxPageBytes = 2 << 20;  // clients take 4 MiB unless told otherwise

absl::Status RequireVmId(const std::string& vm_id) {
  if (vm_id.empty()) return InvalidFields({{"vm_id", "is required"}});
  return absl::OkStatus();
}

// Passes the gate, then answers with the VM that `call` returns.
template <typename Call>
grpc::Status AnswerVm(const BackendGate& gate, const std::string& vm_id, v1::Vm* response,
                      Call call) {
  const auto result = [&]() -> absl::StatusOr<VmView> {
    RETURN_IF_ERROR(RequireVmId(vm_id));
    ASSIGN_OR_RETURN(VmBackend * vms, gate.Pass());
    return call(*vms);
  }();
  if (!result.ok()) return ToGrpcStatus(result.status(), {{"vm_id", vm_id}});
  VmToProto(*result, response);
  return grpc::Status::OK;
}

// A request that is wrong in itself: asks the backend for the rest of what is wrong with it, so
// that the caller learns everything at once.
absl::Status RefuseCreate(VmBackend& vms, CreateVmParams params,
                          std::vector<FieldViolation> violations) {
  params.validate_only = true;
  for (FieldViolation& more : FieldViolations(vms.Create(params).status()))
    violations.push_back(std::move(more));
  return InvalidFields(std::move(violations));
}

absl::StatusOr<VmView> Create(VmBackend& vms, const v1::CreateVmRequest& request) {
  CreateVmParams params = CreateVmParamsFromProto(request);
  std::vector<FieldViolation> violations = CheckCreateVmRequest(request);
  if (violations.empty()) return vms.Create(params);
  return RefuseCreate(vms, std::move(params), std::move(violations));
}

absl::StatusOr<VmPage> List(const BackendGate& gate, const v1::ListVmsRequest& request) {
  if (request.page_size() < 0)
    return InvalidFields({{"page_size", "must not be negative; 0 means 100"}});
  ASSIGN_OR_RETURN(VmBackend * vms, gate.Pass());
  return vms->List(request.page_size(), request.page_token());
}

// A page that every client can receive, whatever the VMs' labels add up to: as many of its VMs as
// fit, and at least one.
absl::Status ListFitting(const BackendGate& gate, v1::ListVmsRequest request,
                         v1::ListVmsResponse* response) {
  for (;;) {
    ASSIGN_OR_RETURN(const VmPage page, List(gate, request));
    response->Clear();
    VmPageToProto(page, response);
    if (page.vms.size() <= 1 || response->ByteSizeLong() <= kMaxPageBytes) return absl::OkStatus();
    request.set_page_size(static_cast<int32_t>(page.vms.size() / 2));
  }
}

absl::Status Delete(const BackendGate& gate, const v1::DeleteVmRequest& request) {
  RETURN_IF_ERROR(RequireVmId(request.vm_id()));
  ASSIGN_OR_RETURN(VmBackend * vms, gate.Pass());
  return vms->Delete(request.vm_id(), request.etag(), request.force(), request.allow_missing());
}

}  // namespace

grpc::Status VmService::CreateVm(grpc::ServerContext*, const v1::CreateVmRequest* request,
                                 v1::Vm* response) {
  const auto result = [&]() -> absl::StatusOr<VmView> {
    ASSIGN_OR_RETURN(VmBackend * vms, gate_.Pass());
    return Create(*vms, *request);
  }();
  if (!result.ok()) return ToGrpcStatus(result.status(), {{"vm_id", request->vm_id()}});
  VmToProto(*result, response);
  return grpc::Status::OK;
}

grpc::Status VmService::GetVm(grpc::ServerContext*, const v1::GetVmRequest* request,
                              v1::Vm* response) {
  return AnswerVm(gate_, request->vm_id(), response,
                  [&](VmBackend& vms) { return vms.Get(request->vm_id()); });
}

grpc::Status VmService::ListVms(grpc::ServerContext*, const v1::ListVmsRequest* request,
                                v1::ListVmsResponse* response) {
  return ToGrpcStatus(ListFitting(gate_, *request, response));
}

grpc::Status VmService::StartVm(grpc::ServerContext*, const v1::StartVmRequest* request,
                                v1::Vm* response) {
  return AnswerVm(gate_, request->vm_id(), response,
                  [&](VmBackend& vms) { return vms.Start(request->vm_id(), request->etag()); });
}

// Waits for the guest no longer than its client does, or than the agent lives.
grpc::Status VmService::StopVm(grpc::ServerContext* context, const v1::StopVmRequest* request,
                               v1::Vm* response) {
  return AnswerVm(gate_, request->vm_id(), response, [&](VmBackend& vms) -> absl::StatusOr<VmView> {
    ASSIGN_OR_RETURN(const std::chrono::nanoseconds grace, GraceFromProto(*request));
    absl::StatusOr<VmView> vm =
        vms.Stop(request->vm_id(), request->etag(), grace, request->force(),
                 [&] { return context->IsCancelled() || !gate_.Pass().ok(); });
    if (absl::IsCancelled(vm.status())) RETURN_IF_ERROR(gate_.Pass().status());
    return vm;
  });
}

grpc::Status VmService::PauseVm(grpc::ServerContext*, const v1::PauseVmRequest* request,
                                v1::Vm* response) {
  return AnswerVm(gate_, request->vm_id(), response,
                  [&](VmBackend& vms) { return vms.Pause(request->vm_id(), request->etag()); });
}

grpc::Status VmService::ResumeVm(grpc::ServerContext*, const v1::ResumeVmRequest* request,
                                 v1::Vm* response) {
  return AnswerVm(gate_, request->vm_id(), response,
                  [&](VmBackend& vms) { return vms.Resume(request->vm_id(), request->etag()); });
}

grpc::Status VmService::RebootVm(grpc::ServerContext*, const v1::RebootVmRequest* request,
                                 v1::Vm* response) {
  return AnswerVm(gate_, request->vm_id(), response,
                  [&](VmBackend& vms) { return vms.Reboot(request->vm_id(), request->etag()); });
}

grpc::Status VmService::DeleteVm(grpc::ServerContext*, const v1::DeleteVmRequest* request,
                                 google::protobuf::Empty*) {
  return ToGrpcStatus(Delete(gate_, *request), {{"vm_id", request->vm_id()}});
}

grpc::ServerBidiReactor<v1::StreamConsoleRequest, v1::StreamConsoleResponse>*
VmService::StreamConsole(grpc::CallbackServerContext*) {
  return consoles_.Open();
}

}  // namespace drover
