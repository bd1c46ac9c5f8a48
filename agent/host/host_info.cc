#include "agent/host/host_info.h"

#include <errno.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "vmm/base/fd.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

std::string CapabilityText(const HelperProbe& probe, const std::string& name) {
  const auto it = probe.capabilities.find(name);
  return it == probe.capabilities.end() ? "" : it->second;
}

std::string HypervisorKind(const HelperProbe& probe) {
  if (!probe.kvm_unusable.empty()) return "";
  const std::string kind = CapabilityText(probe, "kind");
  return kind.empty() ? "kvm" : kind;
}

HelperProbe Less(HelperProbe probe, const std::vector<std::string>& withheld) {
  const std::map<std::string, std::string> nothing = BackendCapabilities().ToMap();
  for (const std::string& name : withheld)
    if (const auto absent = nothing.find(name); absent != nothing.end())
      probe.capabilities[name] = absent->second;
  return probe;
}

}  // namespace

absl::StatusOr<int64_t> ParseMemTotalMib(absl::string_view meminfo) {
  for (absl::string_view line : absl::StrSplit(meminfo, '\n')) {
    if (!absl::ConsumePrefix(&line, "MemTotal:") || !absl::ConsumeSuffix(&line, "kB")) continue;
    int64_t kib = 0;
    if (absl::SimpleAtoi(line, &kib) && kib > 0) return kib / 1024;
  }
  return absl::InvalidArgumentError("/proc/meminfo has no MemTotal line");
}

absl::StatusOr<HostFacts> ReadHostFacts() {
  struct utsname name;
  if (uname(&name) != 0) return PosixStatus(errno, "uname", "");
  const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
  if (cpus < 1) return PosixStatus(errno, "sysconf", "_SC_NPROCESSORS_ONLN");
  ASSIGN_OR_RETURN(const std::string meminfo, ReadSmallFile("/proc/meminfo"));
  ASSIGN_OR_RETURN(const int64_t memory_mib, ParseMemTotalMib(meminfo));
  return HostFacts{.hostname = name.nodename,
                   .kernel_release = name.release,
                   .architecture = name.machine,
                   .cpus = static_cast<int32_t>(cpus),
                   .memory_mib = memory_mib};
}

HostInfo::HostInfo(HostFacts facts, HelperProbe probe, HostResources capacity,
                   std::string agent_version, int64_t agent_start_time,
                   std::vector<std::string> withheld)
    : view_{.facts = std::move(facts),
            .agent_version = std::move(agent_version),
            .agent_start_time = agent_start_time,
            .capacity = capacity,
            .hypervisor_kind = HypervisorKind(probe),
            .probe = Less(std::move(probe), withheld)} {
  std::sort(withheld.begin(), withheld.end());
  withheld.erase(std::unique(withheld.begin(), withheld.end()), withheld.end());
  view_.withheld = std::move(withheld);
}

absl::StatusOr<std::optional<BackendCapabilities>> UsableCapabilities(
    const HelperProbe& probe, const std::vector<std::string>& withheld) {
  BackendCapabilities host = BackendCapabilities::FromMap(probe.capabilities);
  RETURN_IF_ERROR(host.WithholdAll(withheld));
  if (!probe.kvm_unusable.empty()) return std::optional<BackendCapabilities>();
  return std::optional<BackendCapabilities>(std::move(host));
}

HostView HostInfo::Describe(const std::vector<VmView>& vms) const {
  HostView view = view_;
  for (const VmView& vm : vms) {
    view.allocated.vcpus += vm.spec.vcpus;
    view.allocated.memory_mib += vm.spec.memory_mib;
    ++view.allocated.vms;
  }
  return view;
}

int32_t CapabilityNumber(const HelperProbe& probe, const std::string& name) {
  int32_t value = 0;
  return absl::SimpleAtoi(CapabilityText(probe, name), &value) ? value : 0;
}

bool CapabilityFlag(const HelperProbe& probe, const std::string& name) {
  return CapabilityText(probe, name) == "true";
}

}  // namespace drover
