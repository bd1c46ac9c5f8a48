#ifndef DROVER_AGENT_SERVICE_LISTEN_ADDRESS_H_
#define DROVER_AGENT_SERVICE_LISTEN_ADDRESS_H_

#include <string>

#include "absl/status/status.h"

namespace drover {

// OK for "127.x.y.z:PORT" or "[::1]:PORT" with a port from 0 (any) to 65535: nobody beyond this
// host can reach those. Names are refused: what they resolve to can change.
absl::Status CheckLoopbackAddress(const std::string& address);

// Makes `path` free for a new listening unix socket: removes a socket that nobody listens on.
// INVALID_ARGUMENT for a path that is not absolute or too long for a socket address;
// ALREADY_EXISTS when somebody listens there; FAILED_PRECONDITION when it is no socket.
absl::Status ClaimUnixSocketPath(const std::string& path);

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_LISTEN_ADDRESS_H_
