#ifndef DROVER_AGENT_HOST_HOST_INFO_H_
#define DROVER_AGENT_HOST_HOST_INFO_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/helper/helper.h"
#include "agent/vms/vm_backend.h"
#include "vmm/core/capabilities.h"

namespace drover {

// What the kernel says of the host.
struct HostFacts {
  std::string hostname;
  std::string kernel_release;
  std::string architecture;  // x86_64 or aarch64
  int32_t cpus = 0;          // online
  int64_t memory_mib = 0;    // MemTotal
};

// From uname(2), sysconf(3) and /proc/meminfo.
absl::StatusOr<HostFacts> ReadHostFacts();

// MemTotal of the text of /proc/meminfo, in MiB; INVALID_ARGUMENT where it has none.
absl::StatusOr<int64_t> ParseMemTotalMib(absl::string_view meminfo);

struct HostResources {
  int32_t vcpus = 0;
  int64_t memory_mib = 0;
  int32_t vms = 0;
  bool operator==(const HostResources&) const = default;
};

// What the API shows of the host.
struct HostView {
  HostFacts facts;
  std::string agent_version;
  int64_t agent_start_time = 0;  // nanoseconds since the Unix epoch
  HostResources capacity;
  HostResources allocated;
  std::string hypervisor_kind;        // "" where none can be used
  HelperProbe probe;                  // less what is withheld
  std::vector<std::string> withheld;  // capabilities, in the order of their names
};

// The host, as found when the agent started. Immutable: any thread may ask.
class HostInfo {
 public:
  HostInfo(HostFacts facts, HelperProbe probe, HostResources capacity, std::string agent_version,
           int64_t agent_start_time, std::vector<std::string> withheld = {});

  // With what `vms` have been promised.
  HostView Describe(const std::vector<VmView>& vms) const;

 private:
  HostView view_;
};

// What the hypervisor that was probed can do, less `withheld`; nothing where it cannot be used.
// INVALID_ARGUMENT for a name that is no capability.
absl::StatusOr<std::optional<BackendCapabilities>> UsableCapabilities(
    const HelperProbe& probe, const std::vector<std::string>& withheld);

// A capability's value as a number or a truth; 0 and false where the host does not name it.
int32_t CapabilityNumber(const HelperProbe& probe, const std::string& name);
bool CapabilityFlag(const HelperProbe& probe, const std::string& name);

}  // namespace drover

#endif  // DROVER_AGENT_HOST_HOST_INFO_H_
