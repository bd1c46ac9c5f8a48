#include "agent/daemon/supervisor.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "vmm/base/fd.h"
#include "vmm/base/status.h"

namespace drover {

absl::Status NotifySupervisor(const std::string& message) {
  const char* variable = getenv("NOTIFY_SOCKET");
  if (variable == nullptr || *variable == '\0') return absl::OkStatus();
  const std::string path = variable;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (path.size() >= sizeof(address.sun_path))
    return absl::InvalidArgumentError("NOTIFY_SOCKET is too long");
  memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';  // the abstract namespace
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return PosixStatus(errno, "socket", "NOTIFY_SOCKET");
  const auto size = static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + path.size());
  if (sendto(socket.get(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
             reinterpret_cast<struct sockaddr*>(&address), size) < 0)
    return PosixStatus(errno, "sendto", path);
  return absl::OkStatus();
}

}  // namespace drover
