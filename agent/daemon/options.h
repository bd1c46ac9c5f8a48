#ifndef DROVER_AGENT_DAEMON_OPTIONS_H_
#define DROVER_AGENT_DAEMON_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/daemon/agent_user.h"
#include "agent/jail/uid_pool.h"
#include "vmm/base/log.h"

namespace drover {

// What drover-agent was told, with the defaults filled in.
struct DaemonOptions {
  std::string state_dir = "/var/lib/drover";
  std::string listen = "/run/drover/agent.sock";  // "": no unix socket
  std::string insecure_listen;                    // "": no TCP
  std::string metrics_listen = "127.0.0.1:9464";  // "": no metrics
  std::vector<std::string> image_dirs;            // never empty
  AgentUser user;
  UidRange worker_uids;
  std::string worker;
  std::string helper;
  std::string cgroup_parent = "drover";
  uint32_t spares = 2;
  int32_t max_vms = 1000;
  int32_t reserve_memory_mib = 256;   // of the host, kept from VMs
  std::vector<std::string> withheld;  // capabilities that VMs do without
  LogLevel log_level = LogLevel::kInfo;
  bool help = false;     // nothing else is checked then
  bool version = false;  // the same
};

// "" for a variable that is not set.
using Environment = std::function<std::string(const std::string& name)>;

// Reads the command line (without the program's name), then DROVER_AGENT_<FLAG> for each flag that
// it does not give (DROVER_AGENT_STATE_DIR, ...; several image directories or
// capabilities separated by ':').
// `program_dir` is where drover-helper and drover-vmm are by default. INVALID_ARGUMENT names the
// flag and what it can be; files are not looked at.
absl::StatusOr<DaemonOptions> ParseDaemonOptions(const std::vector<std::string>& args,
                                                 const Environment& environment,
                                                 const std::string& program_dir);

// What --help prints.
std::string DaemonHelp();

}  // namespace drover

#endif  // DROVER_AGENT_DAEMON_OPTIONS_H_
