#ifndef DROVER_AGENT_SERVICE_HOST_SERVICE_H_
#define DROVER_AGENT_SERVICE_HOST_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "agent/host/host_info.h"
#include "agent/service/backend_gate.h"
#include "proto/drover/v1/host.grpc.pb.h"

namespace drover {

void HostToProto(const HostView& host, v1::Host* proto);

// drover.v1.HostService. Thread-safe.
class HostService final : public v1::HostService::Service {
 public:
  // Both must outlive the server that runs this service.
  HostService(const BackendGate* gate, const HostInfo* host) : gate_(*gate), host_(*host) {}

  grpc::Status GetHost(grpc::ServerContext* context, const v1::GetHostRequest* request,
                       v1::Host* response) override;

 private:
  const BackendGate& gate_;
  const HostInfo& host_;
};

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_HOST_SERVICE_H_
