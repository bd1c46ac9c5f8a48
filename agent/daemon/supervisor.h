#ifndef DROVER_AGENT_DAEMON_SUPERVISOR_H_
#define DROVER_AGENT_DAEMON_SUPERVISOR_H_

#include <string>

#include "absl/status/status.h"

namespace drover {

// Tells the service manager "READY=1", "STATUS=...", ... (sd_notify(3)) over $NOTIFY_SOCKET. OK
// where there is none.
absl::Status NotifySupervisor(const std::string& message);

}  // namespace drover

#endif  // DROVER_AGENT_DAEMON_SUPERVISOR_H_
