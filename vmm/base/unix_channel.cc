#include "vmm/base/unix_channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr int kConnectSeconds = 2;

// A unix address holds 107 bytes. A longer path is named through its directory's descriptor, which
// `directory` keeps.
absl::StatusOr<struct sockaddr_un> AddressOf(const std::string& path, Fd* directory) {
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::string name = path;
  if (name.size() >= sizeof(address.sun_path)) {
    const size_t slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash);
    ASSIGN_OR_RETURN(*directory, OpenFile(parent.c_str(), O_PATH | O_DIRECTORY));
    name = absl::StrCat("/proc/self/fd/", directory->get(), "/", path.substr(slash + 1));
  }
  if (name.size() >= sizeof(address.sun_path))
    return PosixStatus(ENAMETOOLONG, "unix socket", path);
  memcpy(address.sun_path, name.data(), name.size());
  return address;
}

absl::StatusOr<Fd> NewSocket() {
  Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return PosixStatus(errno, "socket", "AF_UNIX");
  return fd;
}

// Also how long connect waits for room in the listener's queue; 0: for ever.
absl::Status SetSendTimeout(int fd, int seconds) {
  const struct timeval limit = {.tv_sec = seconds, .tv_usec = 0};
  if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0)
    return PosixStatus(errno, "SO_SNDTIMEO", "");
  return absl::OkStatus();
}

absl::Status WaitReadable(int fd, std::chrono::milliseconds timeout) {
  struct pollfd entry = {.fd = fd, .events = POLLIN, .revents = 0};
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    const int wait =
        timeout.count() < 0 ? -1 : static_cast<int>(std::max<int64_t>(left.count(), 0));
    const int n = poll(&entry, 1, wait);
    if (n > 0) return absl::OkStatus();
    if (n == 0) return absl::DeadlineExceededError("no message in time");
    if (errno != EINTR) return PosixStatus(errno, "poll", "");
  }
}

void TakeFds(struct msghdr* header, std::vector<Fd>* fds) {
  for (struct cmsghdr* c = CMSG_FIRSTHDR(header); c != nullptr; c = CMSG_NXTHDR(header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
      fds->emplace_back(fd);
    }
  }
}

absl::Status ReceiveError(int error) {
  if (error == EAGAIN) return absl::DeadlineExceededError("no message in time");
  if (error == ECONNRESET) return absl::UnavailableError("closed");
  return PosixStatus(error, "recvmsg", "");
}

// Of the message that is next, which stays where it is; 0 at the end as well.
absl::StatusOr<size_t> NextLength(int fd) {
  ssize_t n;
  do {
    n = recv(fd, nullptr, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return ReceiveError(errno);
  return static_cast<size_t>(n);
}

// The buffer is made as long as the message: most are short, and the longest takes pages to clear.
absl::StatusOr<ChannelMessage> ReceiveNow(int fd) {
  ASSIGN_OR_RETURN(const size_t length, NextLength(fd));
  ChannelMessage message;
  message.bytes.resize(std::min(length, UnixChannel::kMaxMessageBytes));
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * UnixChannel::kMaxFds)];
  struct iovec vec = {.iov_base = message.bytes.data(), .iov_len = message.bytes.size()};
  struct msghdr header = {};
  header.msg_iov = &vec;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  ssize_t n;
  do {
    n = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return ReceiveError(errno);
  TakeFds(&header, &message.fds);
  if (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
    return absl::InvalidArgumentError("a message exceeds the channel's limits; it was dropped");
  if (n == 0 && message.fds.empty()) return absl::UnavailableError("closed");
  message.bytes.resize(static_cast<size_t>(n));
  return message;
}

absl::Status SendError(int error, size_t size) {
  if (error == EPIPE || error == ECONNRESET || error == ENOTCONN)
    return absl::UnavailableError("the peer of the channel is gone");
  if (error == EAGAIN) return absl::ResourceExhaustedError("the channel's queue is full");
  return PosixStatus(error, "sendmsg", absl::StrCat("of ", size, " bytes"));
}

}  // namespace

absl::StatusOr<std::pair<UnixChannel, UnixChannel>> UnixChannel::Pair() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
    return PosixStatus(errno, "socketpair", "");
  return std::make_pair(UnixChannel(Fd(fds[0])), UnixChannel(Fd(fds[1])));
}

absl::StatusOr<UnixChannel> UnixChannel::Connect(const std::string& path) {
  Fd directory;
  ASSIGN_OR_RETURN(const struct sockaddr_un address, AddressOf(path, &directory));
  ASSIGN_OR_RETURN(Fd fd, NewSocket());
  RETURN_IF_ERROR(SetSendTimeout(fd.get(), kConnectSeconds));
  if (connect(fd.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof(address)) != 0)
    return PosixStatus(errno, "connect", path);
  RETURN_IF_ERROR(SetSendTimeout(fd.get(), 0));
  return UnixChannel(std::move(fd));
}

absl::Status UnixChannel::Send(absl::string_view bytes, absl::Span<const int> fds) {
  if (bytes.size() > kMaxMessageBytes || fds.size() > kMaxFds)
    return absl::ResourceExhaustedError(absl::StrCat("a message of ", bytes.size(), " bytes and ",
                                                     fds.size(),
                                                     " descriptors exceeds the channel's limits"));
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFds)] = {};
  struct iovec vec = {.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
  struct msghdr header = {};
  header.msg_iov = &vec;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    struct cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    memcpy(CMSG_DATA(c), fds.data(), sizeof(int) * fds.size());
  }
  ssize_t n;
  do {
    n = sendmsg(socket_.get(), &header, MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  return n < 0 ? SendError(errno, bytes.size()) : absl::OkStatus();
}

absl::StatusOr<ChannelMessage> UnixChannel::Receive(std::chrono::milliseconds timeout) {
  absl::StatusOr<ChannelMessage> message = ReceiveNow(socket_.get());
  if (timeout.count() == 0 || !absl::IsDeadlineExceeded(message.status())) return message;
  RETURN_IF_ERROR(WaitReadable(socket_.get(), timeout));
  return ReceiveNow(socket_.get());
}

absl::Status UnixChannel::SetNonBlocking() {
  const int flags = fcntl(socket_.get(), F_GETFL);
  if (flags < 0 || fcntl(socket_.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    return PosixStatus(errno, "O_NONBLOCK", "");
  return absl::OkStatus();
}

absl::StatusOr<Fd> ListenUnix(const std::string& path, unsigned mode) {
  Fd directory;
  ASSIGN_OR_RETURN(const struct sockaddr_un address, AddressOf(path, &directory));
  ASSIGN_OR_RETURN(Fd fd, NewSocket());
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return PosixStatus(errno, "unlink", path);
  if (bind(fd.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof(address)) != 0)
    return PosixStatus(errno, "bind", path);
  if (chmod(path.c_str(), mode) != 0) return PosixStatus(errno, "chmod", path);
  if (listen(fd.get(), 16) != 0) return PosixStatus(errno, "listen", path);
  return fd;
}

absl::StatusOr<UnixChannel> AcceptUnix(int listener) {
  Fd fd(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd.valid() && (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR))
    return absl::UnavailableError("no connection waits");
  if (!fd.valid()) return PosixStatus(errno, "accept4", "");
  return UnixChannel(std::move(fd));
}

}  // namespace drover
