#ifndef DROVER_AGENT_SERVICE_GRPC_SERVER_H_
#define DROVER_AGENT_SERVICE_GRPC_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/service/rpc_observer.h"
#include "agent/service/unix_acceptor.h"

namespace drover {

struct GrpcServerOptions {
  std::string unix_path;             // "": no unix socket
  std::string insecure_tcp_address;  // loopback only; "": no TCP
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

  // NOT_SERVING, no new calls; waits for those in progress, and cancels what is left after `bound`.
  void Shutdown(std::chrono::milliseconds bound);

  // The port of insecure_tcp_address; 0 without one.
  int tcp_port() const { return *tcp_port_; }

 private:
  GrpcServer(std::unique_ptr<grpc::Server> server, std::unique_ptr<int> tcp_port,
             std::unique_ptr<UnixAcceptor> acceptor)
      : server_(std::move(server)),
        tcp_port_(std::move(tcp_port)),
        acceptor_(std::move(acceptor)) {}

  const std::unique_ptr<grpc::Server> server_;
  const std::unique_ptr<int> tcp_port_;
  const std::unique_ptr<UnixAcceptor> acceptor_;  // null without a unix socket
};

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_GRPC_SERVER_H_
