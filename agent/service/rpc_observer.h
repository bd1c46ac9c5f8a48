#ifndef DROVER_AGENT_SERVICE_RPC_OBSERVER_H_
#define DROVER_AGENT_SERVICE_RPC_OBSERVER_H_

#include <grpcpp/support/server_interceptor.h>
#include <grpcpp/support/status.h>

#include <memory>

#include "absl/strings/string_view.h"

namespace drover {

// Hears of every call that the server has answered. Thread-safe.
class RpcObserver {
 public:
  virtual ~RpcObserver() = default;
  // `service` such as drover.v1.VmService; only methods that the server has are reported. `reason`
  // is the error's ErrorInfo.reason; "" for OK and for gRPC's own errors.
  virtual void OnRpcHandled(absl::string_view service, absl::string_view method,
                            grpc::StatusCode code, absl::string_view reason) = 0;
};

// Makes the interceptor that tells `observer` (borrowed).
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> ObserveRpcs(
    RpcObserver* observer);

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_RPC_OBSERVER_H_
