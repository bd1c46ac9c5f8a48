#include "agent/service/unix_acceptor.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <utility>

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

// Descriptors are numbered from the lowest that is free: whoever gets one beyond this takes of the
// reserve.
int FirstReserved() {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  return static_cast<int>(limit.rlim_cur - limit.rlim_cur / 4);
}

}  // namespace

UnixAcceptor::UnixAcceptor(std::string path, Fd listener, Fd stop)
    : path_(std::move(path)), listener_(std::move(listener)), stop_(std::move(stop)) {}

absl::StatusOr<std::unique_ptr<UnixAcceptor>> UnixAcceptor::Listen(const std::string& path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (path.size() >= sizeof(address.sun_path))
    return absl::InvalidArgumentError(absl::StrCat("the path ", path, " fits no socket address"));
  memcpy(address.sun_path, path.data(), path.size());
  Fd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return PosixStatus(errno, "socket", path);
  ASSIGN_OR_RETURN(Fd stop, MakeEventFd());
  if (BindWithMode(listener.get(), address) != 0) return PosixStatus(errno, "bind", path);
  std::unique_ptr<UnixAcceptor> acceptor(
      new UnixAcceptor(path, std::move(listener), std::move(stop)));
  if (listen(acceptor->listener_.get(), SOMAXCONN) != 0) return PosixStatus(errno, "listen", path);
  return acceptor;
}

UnixAcceptor::~UnixAcceptor() { Stop(); }

void UnixAcceptor::Start(Handler handler) {
  thread_ = std::thread([this, handler = std::move(handler)] { Run(handler); });
}

void UnixAcceptor::Stop() {
  if (!listener_.valid()) return;
  eventfd_write(stop_.get(), 1);
  if (thread_.joinable()) thread_.join();
  unlink(path_.c_str());
  listener_.Reset();
}

void UnixAcceptor::Run(const Handler& handler) {
  while (Await(listener_.get(), -1)) AcceptOne(handler);
}

void UnixAcceptor::AcceptOne(const Handler& handler) {
  Fd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connection.valid()) {
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
    Refuse(strerrordesc_np(errno));
    (void)Await(-1, kPauseMillis);
    return;
  }
  if (connection.get() >= FirstReserved())
    return Refuse("the rest of the process's descriptors is reserved");
  refusing_ = false;
  handler(std::move(connection));
}

bool UnixAcceptor::Await(int fd, int millis) const {
  struct pollfd polls[] = {{stop_.get(), POLLIN, 0}, {fd, POLLIN, 0}};
  (void)poll(polls, std::size(polls), millis);
  return polls[0].revents == 0;
}

void UnixAcceptor::Refuse(absl::string_view why) {
  if (std::exchange(refusing_, true)) return;
  Log(LogLevel::kWarning, "connections are refused: too many are open",
      {{"listen", path_}, {"why", why}});
}

}  // namespace drover
