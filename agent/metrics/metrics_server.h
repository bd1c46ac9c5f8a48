#ifndef DROVER_AGENT_METRICS_METRICS_SERVER_H_
#define DROVER_AGENT_METRICS_METRICS_SERVER_H_

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace drover {

// GET /metrics on its own port, in Prometheus' text format. Thread-safe.
class MetricsServer {
 public:
  // Listens on "ADDRESS:PORT" (port 0: any) and keeps the collectables. INVALID_ARGUMENT for an
  // address that is none, UNAVAILABLE when it cannot be bound.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(
      const std::string& address,
      std::vector<std::shared_ptr<prometheus::Collectable>> collectables);

  ~MetricsServer();

  int port() const;

 private:
  MetricsServer(std::vector<std::shared_ptr<prometheus::Collectable>> collectables,
                std::unique_ptr<prometheus::Exposer> exposer)
      : collectables_(std::move(collectables)), exposer_(std::move(exposer)) {}

  const std::vector<std::shared_ptr<prometheus::Collectable>> collectables_;
  std::unique_ptr<prometheus::Exposer> exposer_;  // ends before what it collects
};

// OK for "ADDRESS:PORT" with a literal IPv4 or bracketed IPv6 address, or ":PORT" alone for every
// address.
absl::Status CheckMetricsAddress(const std::string& address);

}  // namespace drover

#endif  // DROVER_AGENT_METRICS_METRICS_SERVER_H_
