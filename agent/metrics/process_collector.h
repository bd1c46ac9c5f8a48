#ifndef DROVER_AGENT_METRICS_PROCESS_COLLECTOR_H_
#define DROVER_AGENT_METRICS_PROCESS_COLLECTOR_H_

#include <prometheus/collectable.h>

#include <vector>

namespace drover {

// The process_* metrics that every Prometheus client shows, of this process, read from /proc/self
// when scraped; what cannot be read is left out. Thread-safe.
class ProcessCollector : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace drover

#endif  // DROVER_AGENT_METRICS_PROCESS_COLLECTOR_H_
