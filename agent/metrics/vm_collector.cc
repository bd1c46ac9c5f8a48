#include "agent/metrics/vm_collector.h"

#include <map>

#include "agent/metrics/metric_families.h"

namespace drover {
namespace {

constexpr std::pair<VmState, const char*> kStates[] = {
    {VmState::kCreated, "created"},   {VmState::kStarting, "starting"},
    {VmState::kRunning, "running"},   {VmState::kPaused, "paused"},
    {VmState::kStopping, "stopping"}, {VmState::kStopped, "stopped"},
    {VmState::kFailed, "failed"},     {VmState::kUnknown, "unknown"},
};

prometheus::MetricFamily CountStates(const std::vector<VmView>& vms) {
  std::map<VmState, int> counts;
  for (const VmView& vm : vms) ++counts[vm.state];
  prometheus::MetricFamily family{
      "drover_vms", "VMs on this host, by their state.", prometheus::MetricType::Gauge, {}};
  for (const auto& [state, name] : kStates)
    family.metric.push_back(MakeGaugeValue(counts[state], {{"state", name}}));
  return family;
}

}  // namespace

std::vector<prometheus::MetricFamily> VmCollector::Collect() const {
  const absl::StatusOr<VmBackend*> backend = gate_.Pass();
  if (!backend.ok()) return {};
  const std::vector<VmView> vms = (*backend)->Snapshot();
  double memory_bytes = 0;
  double vcpus = 0;
  for (const VmView& vm : vms) {
    memory_bytes += vm.spec.memory_mib * 1048576.0;
    vcpus += vm.spec.vcpus;
  }
  return {CountStates(vms),
          MakeGauge("drover_host_allocated_memory_bytes",
                    "Guest memory promised to the VMs that are not deleted.", memory_bytes),
          MakeGauge("drover_host_allocated_vcpus",
                    "Virtual CPUs promised to the VMs that are not deleted.", vcpus)};
}

}  // namespace drover
