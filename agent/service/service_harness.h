#ifndef DROVER_AGENT_SERVICE_SERVICE_HARNESS_H_
#define DROVER_AGENT_SERVICE_SERVICE_HARNESS_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "agent/host/host_info.h"
#include "agent/service/backend_gate.h"
#include "agent/service/fake_vm_backend.h"
#include "agent/service/grpc_server.h"
#include "agent/service/host_service.h"
#include "agent/service/stream_console.h"
#include "agent/service/vm_service.h"

namespace drover {

// The agent's API on a unix socket in a fresh directory, over a FakeVmBackend. For tests; dies
// where it cannot start.
class ServiceHarness {
 public:
  explicit ServiceHarness(ConsoleStreamOptions consoles = ConsoleStreamOptions(),
                          RpcObserver* observer = nullptr);
  ~ServiceHarness();

  FakeVmBackend& backend() { return backend_; }
  BackendGate& gate() { return gate_; }
  ConsoleStreams& consoles() { return *consoles_; }
  GrpcServer& server() { return *server_; }
  std::string socket_path() const { return directory_ + "/agent.sock"; }
  std::string address() const { return "unix:" + socket_path(); }
  std::shared_ptr<grpc::Channel> NewChannel() const;

  // Opens the gate and reports SERVING, as the agent does after adoption.
  void Open();
  // A VM in state created.
  void AddVm(const std::string& id);

 private:
  const std::string directory_;
  FakeVmBackend backend_;
  BackendGate gate_;
  HostInfo host_;
  std::unique_ptr<ConsoleStreams> consoles_;
  VmService vm_service_;
  HostService host_service_;
  std::unique_ptr<GrpcServer> server_;
};

// Gives a call 60 s, so that a test that waits in vain ends.
void SetTestDeadline(grpc::ClientContext* context);

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_SERVICE_HARNESS_H_
