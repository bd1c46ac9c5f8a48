#ifndef DROVER_AGENT_SERVICE_GRPC_SERVER_H_
#define DROVER_AGENT_SERVICE_GRPC_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/service/acceptor.h"
#include "agent/service/active_calls.h"
#include "agent/service/rpc_observer.h"

namespace drover {

struct GrpcServerOptions {
  std::string unix_path;             // "": no unix socket
  std::string insecure_tcp_address;  // loopback only; "": no TCP
  // At once, on all addresses: an idle one costs the agent some 18 KB.
  size_t max_connections = 1024;
};

// The agent's gRPC server: its listeners, its limits, grpc.health.v1 and reflection. Thread-safe.
//
// The unix socket has mode 0660 and the process's owner and group; a stale one is replaced.
class GrpcServer {
 public:
  // Begins to serve, with a health of NOT_SERVING. The services and `observer` (may be null) must
  // outlive the server. Sets the process's umask for a moment: call before other threads make
  // files.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const GrpcServerOptions& options, const std::vector<grpc::Service*>& services,
      RpcObserver* observer);
  ~GrpcServer();

  // The health of "", drover.v1.VmService and drover.v1.HostService.
  void SetServing(bool serving);

  // NOT_SERVING, no new connections; waits for the calls of drover.v1 in progress, and cancels what
  // is left after `bound`. Clients that only stay connected are not waited for.
  void Shutdown(std::chrono::milliseconds bound);

  // The port of insecure_tcp_address; 0 without one.
  int tcp_port() const;

 private:
  GrpcServer() = default;

  const std::shared_ptr<ActiveCalls> calls_ = std::make_shared<ActiveCalls>();
  std::unique_ptr<grpc::Server> server_;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
};

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_GRPC_SERVER_H_
