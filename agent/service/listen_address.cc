#include "agent/service/listen_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "vmm/base/fd.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

bool IsLoopbackHost(const std::string& host) {
  if (host == "[::1]") return true;
  struct in_addr address;
  return inet_pton(AF_INET, host.c_str(), &address) == 1 && (ntohl(address.s_addr) >> 24) == 127;
}

bool IsPort(const std::string& text) {
  uint32_t port = 0;
  return absl::SimpleAtoi(text, &port) && port <= 65535 && absl::ascii_isdigit(text[0]);
}

// OK when a connection to the socket at `path` succeeds; its errno otherwise.
absl::Status TryConnect(const std::string& path) {
  const Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return PosixStatus(errno, "socket", "AF_UNIX");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (connect(socket.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof(address)) != 0)
    return PosixStatus(errno, "connect", path);
  return absl::OkStatus();
}

absl::Status CheckUnixPath(const std::string& path) {
  if (path.empty() || path[0] != '/')
    return absl::InvalidArgumentError(
        absl::StrCat("\"", path, "\" is no absolute path for a unix socket"));
  if (path.size() >= sizeof(sockaddr_un{}.sun_path))
    return absl::InvalidArgumentError(
        absl::StrCat("the unix socket path ", path, " has ", path.size(), " bytes; at most ",
                     sizeof(sockaddr_un{}.sun_path) - 1, " fit a socket address"));
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckLoopbackAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon != std::string::npos && colon + 1 < address.size() &&
      IsLoopbackHost(address.substr(0, colon)) && IsPort(address.substr(colon + 1)))
    return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", address, "\" is no loopback address: without TLS only 127.x.y.z:PORT and [::1]:PORT",
      " are served"));
}

absl::Status ClaimUnixSocketPath(const std::string& path) {
  RETURN_IF_ERROR(CheckUnixPath(path));
  struct stat found;
  if (lstat(path.c_str(), &found) != 0)
    return errno == ENOENT ? absl::OkStatus() : PosixStatus(errno, "lstat", path);
  if (!S_ISSOCK(found.st_mode))
    return absl::FailedPreconditionError(
        absl::StrCat(path, " exists and is no socket; remove it or listen on another path"));
  const absl::Status connected = TryConnect(path);
  // EAGAIN: somebody listens, with a full backlog.
  if (connected.ok() || PosixErrno(connected) == EAGAIN)
    return absl::AlreadyExistsError(
        absl::StrCat("another process listens on ", path, "; end it or listen on another path"));
  if (PosixErrno(connected) != ECONNREFUSED) return connected;
  if (unlink(path.c_str()) != 0) return PosixStatus(errno, "unlink", path);
  return absl::OkStatus();
}

}  // namespace drover
