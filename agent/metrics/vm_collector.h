#ifndef DROVER_AGENT_METRICS_VM_COLLECTOR_H_
#define DROVER_AGENT_METRICS_VM_COLLECTOR_H_

#include <prometheus/collectable.h>

#include <vector>

#include "agent/service/backend_gate.h"

namespace drover {

// drover_vms{state} and what VMs have been promised, counted when scraped. Empty while the gate is
// closed: nothing is known then. Thread-safe.
class VmCollector : public prometheus::Collectable {
 public:
  // `gate` and its backend must outlive the last scrape.
  explicit VmCollector(const BackendGate* gate) : gate_(*gate) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const BackendGate& gate_;
};

}  // namespace drover

#endif  // DROVER_AGENT_METRICS_VM_COLLECTOR_H_
