#ifndef DROVER_AGENT_DAEMON_DAEMON_H_
#define DROVER_AGENT_DAEMON_DAEMON_H_

#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "agent/daemon/options.h"
#include "agent/helper/helper_process.h"
#include "agent/host/host_info.h"
#include "agent/metrics/agent_metrics.h"
#include "agent/metrics/metrics_server.h"
#include "agent/registry/sqlite_registry.h"
#include "agent/service/backend_gate.h"
#include "agent/service/grpc_server.h"
#include "agent/service/host_service.h"
#include "agent/service/stream_console.h"
#include "agent/service/vm_service.h"
#include "agent/vms/vm_manager.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"

namespace drover {

// The agent: everything that drover-agent runs, in the order in which it comes up. Belongs to the
// process's first thread.
class Daemon {
 public:
  explicit Daemon(DaemonOptions options);
  ~Daemon();

  // Starts, serves, and returns OK after SIGTERM or SIGINT; the error of a start that failed, or
  // UNAVAILABLE (HELPER_GONE) when the helper ended. VMs run on in every case.
  absl::Status Run();

 private:
  // With privilege: directories, lock, helper. Ends by giving the privilege up.
  absl::Status Prepare();
  absl::Status CatchSignals();
  // Without: the API answers, but for its health and the time it takes.
  absl::Status Listen();
  absl::Status StartMetrics();
  absl::Status AdoptVms();
  void BeReady();
  absl::Status AwaitEnd();
  void ShutDown();

  HelperOptions MakeHelperOptions() const;
  HostLimits MakeHostLimits() const;

  const DaemonOptions options_;
  const SystemClock clock_;
  const int64_t start_time_;
  Fd lock_;
  std::unique_ptr<HelperProcess> helper_;
  Fd signals_;
  HelperProbe probe_;
  std::optional<BackendCapabilities> capabilities_;
  HostFacts facts_;
  std::unique_ptr<HostInfo> host_;
  BackendGate gate_;
  AgentMetrics metrics_;
  std::unique_ptr<SqliteRegistry> registry_;
  std::unique_ptr<VmManager> vms_;
  std::unique_ptr<ConsoleStreams> consoles_;
  std::unique_ptr<VmService> vm_service_;
  std::unique_ptr<HostService> host_service_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<MetricsServer> metrics_server_;
};

// drover-agent: reads options, runs the daemon, reports how it ended. The exit code: 0 after a
// signal, 1 for an error, 2 for a wrong command line.
int RunAgent(int argc, char** argv);

}  // namespace drover

#endif  // DROVER_AGENT_DAEMON_DAEMON_H_
