#include "agent/service/acceptor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr int kPauseMillis = 100;  // when not even a refusal can be accepted

// bind(2) gives the socket its mode, so that it never has a wider one.
int BindWithMode(int fd, const struct sockaddr_un& address) {
  const mode_t before = umask(0117);
  const int result = bind(fd, reinterpret_cast<const struct sockaddr*>(&address), sizeof(address));
  const int error = errno;
  umask(before);
  errno = error;
  return result;
}

union TcpAddress {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
};

absl::Status NoAddress(const std::string& text) {
  return absl::InvalidArgumentError(absl::StrCat(text, " is no numeric ADDRESS:PORT"));
}

absl::StatusOr<TcpAddress> ParseTcpAddress(const std::string& text) {
  const size_t colon = text.rfind(':');
  uint32_t port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(text.substr(colon + 1), &port) ||
      port > UINT16_MAX)
    return NoAddress(text);
  const std::string host = text.substr(0, colon);
  TcpAddress address = {};
  if (host == "[::1]") {
    address.v6 = {.sin6_family = AF_INET6,
                  .sin6_port = htons(static_cast<uint16_t>(port)),
                  .sin6_addr = in6addr_loopback};
    return address;
  }
  address.v4 = {.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(port))};
  if (inet_pton(AF_INET, host.c_str(), &address.v4.sin_addr) != 1) return NoAddress(text);
  return address;
}

int PortOf(int fd) {
  TcpAddress address = {};
  socklen_t size = sizeof(address);
  if (getsockname(fd, &address.any, &size) != 0) return 0;
  return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

// Descriptors are numbered from the lowest that is free: whoever gets one beyond this takes of the
// reserve.
int FirstReserved() {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  return static_cast<int>(limit.rlim_cur - limit.rlim_cur / 4);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::Make(const std::string& address, int domain) {
  Fd listener(socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return PosixStatus(errno, "socket", address);
  ASSIGN_OR_RETURN(Fd stop, MakeEventFd());
  return std::unique_ptr<Acceptor>(new Acceptor(address, std::move(listener), std::move(stop)));
}

absl::Status Acceptor::Listen() {
  if (listen(listener_.get(), SOMAXCONN) == 0) return absl::OkStatus();
  return PosixStatus(errno, "listen", address_);
}

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::ListenUnix(const std::string& path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (path.size() >= sizeof(address.sun_path))
    return absl::InvalidArgumentError(absl::StrCat("the path ", path, " fits no socket address"));
  memcpy(address.sun_path, path.data(), path.size());
  ASSIGN_OR_RETURN(std::unique_ptr<Acceptor> acceptor, Make(path, AF_UNIX));
  if (BindWithMode(acceptor->listener_.get(), address) != 0)
    return PosixStatus(errno, "bind", path);
  acceptor->path_ = path;
  RETURN_IF_ERROR(acceptor->Listen());
  return acceptor;
}

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::ListenTcp(const std::string& text) {
  ASSIGN_OR_RETURN(const TcpAddress address, ParseTcpAddress(text));
  ASSIGN_OR_RETURN(std::unique_ptr<Acceptor> acceptor, Make(text, address.any.sa_family));
  const int fd = acceptor->listener_.get();
  const int on = 1;
  // An agent that follows another at once finds its port in TIME_WAIT.
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0)
    return PosixStatus(errno, "SO_REUSEADDR", text);
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0)  // connections inherit it
    return PosixStatus(errno, "TCP_NODELAY", text);
  if (bind(fd, &address.any, sizeof(address)) != 0) return PosixStatus(errno, "bind", text);
  RETURN_IF_ERROR(acceptor->Listen());
  acceptor->port_ = PortOf(fd);
  return acceptor;
}

Acceptor::~Acceptor() { Stop(); }

void Acceptor::Start(std::shared_ptr<ConnectionLimit> limit, Handler handler) {
  limit_ = std::move(limit);
  thread_ = std::thread([this, handler = std::move(handler)] { Run(handler); });
}

void Acceptor::Stop() {
  if (!listener_.valid()) return;
  eventfd_write(stop_.get(), 1);
  if (thread_.joinable()) thread_.join();
  if (!path_.empty()) unlink(path_.c_str());
  listener_.Reset();
}

void Acceptor::Run(const Handler& handler) {
  while (Await(listener_.get(), -1)) AcceptOne(handler);
}

void Acceptor::AcceptOne(const Handler& handler) {
  Fd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connection.valid()) {
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
    Refuse(strerrordesc_np(errno));
    (void)Await(-1, kPauseMillis);
    return;
  }
  if (connection.get() >= FirstReserved())
    return Refuse("the rest of the process's descriptors is reserved");
  if (!limit_->Admit(connection))
    return Refuse(absl::StrCat("there are ", limit_->most(), ", as many as are served at once"));
  refusing_ = false;
  handler(std::move(connection));
}

bool Acceptor::Await(int fd, int millis) const {
  struct pollfd polls[] = {{stop_.get(), POLLIN, 0}, {fd, POLLIN, 0}};
  (void)poll(polls, std::size(polls), millis);
  return polls[0].revents == 0;
}

// Logged once for all that are refused in a row.
void Acceptor::Refuse(absl::string_view why) {
  if (std::exchange(refusing_, true)) return;
  Log(LogLevel::kWarning, "connections are refused: too many are open",
      {{"listen", address_}, {"why", why}});
}

}  // namespace drover
