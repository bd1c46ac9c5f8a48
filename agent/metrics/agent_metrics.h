#ifndef DROVER_AGENT_METRICS_AGENT_METRICS_H_
#define DROVER_AGENT_METRICS_AGENT_METRICS_H_

#include <prometheus/registry.h>

#include <chrono>
#include <memory>
#include <string>

#include "agent/service/rpc_observer.h"
#include "agent/vms/vm_observer.h"

namespace drover {

// The agent's counters and histograms, all drover_*, fed by what it observes. Thread-safe. Every
// label takes its values from a small fixed set; those known beforehand are there from the start,
// as 0.
class AgentMetrics : public RpcObserver, public VmObserver {
 public:
  explicit AgentMetrics(const std::string& version);

  // drover_ready: VMs are adopted and calls are served.
  void SetReady(bool ready);

  void OnRpcHandled(absl::string_view service, absl::string_view method, grpc::StatusCode code,
                    absl::string_view reason) override;
  void OnStart(std::chrono::nanoseconds duration, const absl::Status& status) override;
  void OnExit(VmState state, absl::string_view reason) override;
  void OnAdopted(AdoptionResult result) override;
  void OnAdoptionFinished(std::chrono::nanoseconds duration) override;

  std::shared_ptr<prometheus::Registry> registry() const { return registry_; }

 private:
  const std::shared_ptr<prometheus::Registry> registry_;
  prometheus::Gauge& ready_;
  prometheus::Family<prometheus::Counter>& rpcs_;
  prometheus::Family<prometheus::Counter>& creates_;
  prometheus::Family<prometheus::Counter>& starts_;
  prometheus::Histogram& start_seconds_;
  prometheus::Family<prometheus::Counter>& exits_;
  prometheus::Family<prometheus::Counter>& adopted_;
  prometheus::Gauge& adoption_seconds_;
};

}  // namespace drover

#endif  // DROVER_AGENT_METRICS_AGENT_METRICS_H_
