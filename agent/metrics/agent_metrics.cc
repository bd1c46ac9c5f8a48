#include "agent/metrics/agent_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include "agent/service/rpc_error.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Counter;
using prometheus::Family;
using prometheus::Registry;

// From the millisecond that a start should take to the minute that none should.
const prometheus::Histogram::BucketBoundaries kStartSeconds = {
    0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};

#ifdef __clang__
constexpr char kCompiler[] = __VERSION__;  // names clang itself
#else
constexpr char kCompiler[] = "GCC " __VERSION__;
#endif

constexpr const char* kAdoptionResults[] = {"adopted", "gone", "interrupted", "unknown"};

Family<Counter>& AddCounter(Registry& registry, const char* name, const char* help) {
  return BuildCounter().Name(name).Help(help).Register(registry);
}

prometheus::Gauge& AddGauge(Registry& registry, const char* name, const char* help) {
  return BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

double Seconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

std::string ReasonOrCode(const absl::Status& status) {
  const std::string reason = ReasonOf(status);
  return reason.empty() ? CodeName(static_cast<int>(status.code())) : reason;
}

void Count(Family<Counter>& family, bool ok, absl::string_view reason) {
  family.Add({{"result", ok ? "success" : "failure"}, {"reason", ok ? "" : std::string(reason)}})
      .Increment();
}

void AddBuildInfo(Registry& registry, const std::string& version) {
  BuildGauge()
      .Name("drover_build_info")
      .Help("The agent's version and the compiler that built it; always 1.")
      .Register(registry)
      .Add({{"version", version}, {"compiler", kCompiler}})
      .Set(1);
}

}  // namespace

AgentMetrics::AgentMetrics(const std::string& version)
    : registry_(std::make_shared<Registry>()),
      ready_(AddGauge(*registry_, "drover_ready",
                      "Whether the agent has adopted its VMs and serves calls (1) or not (0).")),
      rpcs_(AddCounter(*registry_, "drover_grpc_server_handled_total",
                       "Calls that the agent's gRPC server has answered, by their code.")),
      creates_(
          AddCounter(*registry_, "drover_vm_creates_total",
                     "CreateVm calls, by their result and, where they failed, by the reason.")),
      starts_(AddCounter(*registry_, "drover_vm_starts_total",
                         "Starts of VMs, by their result and, where they failed, by the reason.")),
      start_seconds_(
          BuildHistogram()
              .Name("drover_vm_start_duration_seconds")
              .Help(
                  "The time from a StartVm's turn to its running guest, of starts that succeeded.")
              .Register(*registry_)
              .Add({}, kStartSeconds)),
      exits_(AddCounter(*registry_, "drover_vm_exits_total",
                        "Workers that ran and have ended, by the state and reason they left.")),
      adopted_(AddCounter(*registry_, "drover_adopted_vms_total",
                          "VMs found running when the agent started, by what became of them.")),
      adoption_seconds_(AddGauge(*registry_, "drover_adoption_duration_seconds",
                                 "How long the adoption of running VMs took at the last start.")) {
  AddBuildInfo(*registry_, version);
  for (Family<Counter>* family : {&creates_, &starts_})
    family->Add({{"result", "success"}, {"reason", ""}});
  for (const char* result : kAdoptionResults) adopted_.Add({{"result", result}});
}

void AgentMetrics::SetReady(bool ready) { ready_.Set(ready ? 1 : 0); }

void AgentMetrics::OnRpcHandled(absl::string_view service, absl::string_view method,
                                grpc::StatusCode code, absl::string_view reason) {
  rpcs_
      .Add({{"grpc_service", std::string(service)},
            {"grpc_method", std::string(method)},
            {"grpc_code", CodeName(code)}})
      .Increment();
  if (service == "drover.v1.VmService" && method == "CreateVm")
    Count(creates_, code == grpc::StatusCode::OK,
          reason.empty() ? CodeName(code) : std::string(reason));
}

void AgentMetrics::OnStart(std::chrono::nanoseconds duration, const absl::Status& status) {
  Count(starts_, status.ok(), status.ok() ? "" : ReasonOrCode(status));
  if (status.ok()) start_seconds_.Observe(Seconds(duration));
}

void AgentMetrics::OnExit(VmState state, absl::string_view reason) {
  exits_
      .Add({{"state", state == VmState::kFailed ? "failed" : "stopped"},
            {"reason", std::string(reason)}})
      .Increment();
}

void AgentMetrics::OnAdopted(AdoptionResult result) {
  adopted_.Add({{"result", kAdoptionResults[static_cast<int>(result)]}}).Increment();
}

void AgentMetrics::OnAdoptionFinished(std::chrono::nanoseconds duration) {
  adoption_seconds_.Set(Seconds(duration));
}

}  // namespace drover
