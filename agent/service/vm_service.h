#ifndef DROVER_AGENT_SERVICE_VM_SERVICE_H_
#define DROVER_AGENT_SERVICE_VM_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "agent/service/backend_gate.h"
#include "agent/service/stream_console.h"
#include "proto/drover/v1/vm.grpc.pb.h"

namespace drover {

// drover.v1.VmService over a VmBackend: translates and calls. Thread-safe.
class VmService final
    : public v1::VmService::WithCallbackMethod_StreamConsole<v1::VmService::Service> {
 public:
  // Both must outlive the server that runs this service.
  VmService(const BackendGate* gate, ConsoleStreams* consoles)
      : gate_(*gate), consoles_(*consoles) {}

  grpc::Status CreateVm(grpc::ServerContext* context, const v1::CreateVmRequest* request,
                        v1::Vm* response) override;
  grpc::Status GetVm(grpc::ServerContext* context, const v1::GetVmRequest* request,
                     v1::Vm* response) override;
  grpc::Status ListVms(grpc::ServerContext* context, const v1::ListVmsRequest* request,
                       v1::ListVmsResponse* response) override;
  grpc::Status StartVm(grpc::ServerContext* context, const v1::StartVmRequest* request,
                       v1::Vm* response) override;
  grpc::Status StopVm(grpc::ServerContext* context, const v1::StopVmRequest* request,
                      v1::Vm* response) override;
  grpc::Status PauseVm(grpc::ServerContext* context, const v1::PauseVmRequest* request,
                       v1::Vm* response) override;
  grpc::Status ResumeVm(grpc::ServerContext* context, const v1::ResumeVmRequest* request,
                        v1::Vm* response) override;
  grpc::Status RebootVm(grpc::ServerContext* context, const v1::RebootVmRequest* request,
                        v1::Vm* response) override;
  grpc::Status DeleteVm(grpc::ServerContext* context, const v1::DeleteVmRequest* request,
                        google::protobuf::Empty* response) override;
  grpc::ServerBidiReactor<v1::StreamConsoleRequest, v1::StreamConsoleResponse>* StreamConsole(
      grpc::CallbackServerContext* context) override;

 private:
  const BackendGate& gate_;
  ConsoleStreams& consoles_;
};

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_VM_SERVICE_H_
