#ifndef DROVER_AGENT_HELPER_HELPER_OPTIONS_H_
#define DROVER_AGENT_HELPER_HELPER_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/jail/uid_pool.h"

namespace drover {

// The helper's descriptor that is its channel to the agent.
constexpr int kHelperChannelFd = 3;

// What the agent tells the helper when it starts it.
struct HelperOptions {
  std::string state_dir;                       // absolute; exists
  std::string worker;                          // drover-vmm, a static program
  std::vector<std::string> image_directories;  // absolute
  UidRange uids;
  std::string cgroup_parent = "drover";  // a path under the root of the hierarchy
  std::string cgroup_root = "/sys/fs/cgroup";
  std::string kvm_device = "/dev/kvm";
  std::string userfaultfd_device = "/dev/userfaultfd";  // need not exist
  uint32_t agent_gid = 0;                               // may connect to the workers
  uint32_t spares = 2;                                  // jailed workers kept waiting
  int lock_fd = -1;                                     // held as long as the helper lives
};

// The command line for these options, without the program's name, and back. INVALID_ARGUMENT names
// the argument at fault.
std::vector<std::string> FormatHelperArguments(const HelperOptions& options);
absl::StatusOr<HelperOptions> ParseHelperArguments(const std::vector<std::string>& arguments);

}  // namespace drover

#endif  // DROVER_AGENT_HELPER_HELPER_OPTIONS_H_
