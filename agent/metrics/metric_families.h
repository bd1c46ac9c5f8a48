#ifndef DROVER_AGENT_METRICS_METRIC_FAMILIES_H_
#define DROVER_AGENT_METRICS_METRIC_FAMILIES_H_

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

namespace drover {

// For collectors that count when scraped.

inline prometheus::ClientMetric MakeGaugeValue(
    double value, std::vector<prometheus::ClientMetric::Label> labels) {
  prometheus::ClientMetric metric;
  metric.label = std::move(labels);
  metric.gauge.value = value;
  return metric;
}

// A family with one value and no label.
inline prometheus::MetricFamily MakeGauge(std::string name, std::string help, double value) {
  return {
      std::move(name), std::move(help), prometheus::MetricType::Gauge, {MakeGaugeValue(value, {})}};
}
inline prometheus::MetricFamily MakeCounter(std::string name, std::string help, double value) {
  prometheus::ClientMetric metric;
  metric.counter.value = value;
  return {std::move(name), std::move(help), prometheus::MetricType::Counter, {metric}};
}

}  // namespace drover

#endif  // DROVER_AGENT_METRICS_METRIC_FAMILIES_H_
