#include "agent/cli/unreachable.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "vmm/base/fd.h"

namespace drover {
namespace {

// The errno of a connection to the unix socket; 0 when it succeeds.
int TryConnect(absl::string_view path) {
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return ENAMETOOLONG;
  memcpy(address.sun_path, path.data(), path.size());
  const Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return errno;
  const auto* raw = reinterpret_cast<const struct sockaddr*>(&address);
  return connect(fd.get(), raw, sizeof(address)) == 0 ? 0 : errno;
}

Unreachable NotThere(const std::string& what, const std::string& address) {
  return {what, absl::StrCat("is drover-agent running, and is ", address,
                             " its address? (--address or DROVER_ADDRESS)")};
}

Unreachable HungUp(const std::string& address) {
  return {absl::StrCat("the agent at ", address, " ended the connection, or has too many"),
          "repeat the command; what it asked for may have been done already (`drover vm list`)"};
}

}  // namespace

Unreachable ExplainUnreachable(const std::string& address) {
  absl::string_view path = address;
  if (!absl::ConsumePrefix(&path, "unix:"))
    return NotThere(absl::StrCat("no agent answers at ", address), address);
  const int error = TryConnect(path);
  switch (error) {
    case 0:
      return HungUp(address);
    case ENOENT:
      return NotThere(absl::StrCat("there is no socket at ", address), address);
    case ECONNREFUSED:
      return {absl::StrCat("nobody listens at ", address, ": the agent has ended"),
              "start drover-agent again; its VMs run on meanwhile"};
    case EACCES:
    case EPERM:
      return {absl::StrCat("you may not use ", address), "run as root or join the socket's group"};
    case EAGAIN:
      return {absl::StrCat("the agent at ", address,
                           " accepts no connections: it hangs, or too many clients wait for it"),
              "its log may say why; it can be restarted without harm to its VMs"};
    default:
      return NotThere(absl::StrCat("cannot connect to ", address, ": ", strerrordesc_np(error)),
                      address);
  }
}

}  // namespace drover
