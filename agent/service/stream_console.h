#ifndef DROVER_AGENT_SERVICE_STREAM_CONSOLE_H_
#define DROVER_AGENT_SERVICE_STREAM_CONSOLE_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>

#include "absl/status/statusor.h"
#include "agent/service/backend_gate.h"
#include "agent/vms/executor.h"
#include "proto/drover/v1/vm.pb.h"

namespace drover {

struct ConsoleStreamOptions {
  int max_streams = 64;
  std::chrono::milliseconds first_message_timeout{10'000};
};

// Every StreamConsole call in progress: between each client and its console socket stands one
// thread, which takes no more from either side than the other has room for. A stream ends with OK
// when the VM's worker ends; a client that closes its sending side goes on listening.
//
// Errors: RESOURCE_EXHAUSTED (TOO_MANY_CONSOLES); DEADLINE_EXCEEDED (NO_FIRST_MESSAGE);
// INVALID_ARGUMENT (vm_id, input); UNAVAILABLE (AGENT_STOPPING); what AttachConsole returns.
//
// Thread-safe. Must outlive the server that calls it; ends when all streams have.
class ConsoleStreams {
 public:
  using Reactor = grpc::ServerBidiReactor<v1::StreamConsoleRequest, v1::StreamConsoleResponse>;

  // `gate` must outlive the server too.
  static absl::StatusOr<std::unique_ptr<ConsoleStreams>> Create(
      const BackendGate* gate, ConsoleStreamOptions options = ConsoleStreamOptions());

  // Serves one call; the reactor deletes itself.
  Reactor* Open();

  // Ends every stream, those to come too.
  void Shutdown();

  // Streams in progress.
  int active() const;

  struct Shared;

 private:
  explicit ConsoleStreams(std::shared_ptr<Shared> shared);
  const std::shared_ptr<Shared> shared_;
  Executor threads_;  // they are kept: a stream does not wait for the making of its own
};

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_STREAM_CONSOLE_H_
