#ifndef DROVER_AGENT_SERVICE_ACCEPTOR_H_
#define DROVER_AGENT_SERVICE_ACCEPTOR_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/service/connection_limit.h"
#include "vmm/base/fd.h"

namespace drover {

// Accepts the connections to one socket, on a thread of its own, and hands them on. One beyond the
// limit is closed at once, which a gRPC client reports as UNAVAILABLE, and so is one that would
// take of the quarter of the process's descriptors that is kept for everything else: no crowd of
// clients starves the agent. (gRPC 1.51's own listener never accepts again once descriptors have
// run out.) Thread-safe.
class Acceptor {
 public:
  // Gets each connection, nonblocking, on the acceptor's thread.
  using Handler = std::function<void(Fd)>;

  // Binds `path`, where there is nothing, with mode 0660 and listens. Sets the process's umask for
  // a moment. A path that does not fit a socket address is INVALID_ARGUMENT; other errors are the
  // system calls'.
  static absl::StatusOr<std::unique_ptr<Acceptor>> ListenUnix(const std::string& path);
  // Binds "127.x.y.z:PORT" or "[::1]:PORT" and listens; port 0 takes any that is free.
  static absl::StatusOr<std::unique_ptr<Acceptor>> ListenTcp(const std::string& address);
  // Stops, and removes the socket.
  ~Acceptor();

  // Begins to accept; once. `limit` may be shared with other acceptors.
  void Start(std::shared_ptr<ConnectionLimit> limit, Handler handler);
  // Hands on no more connections, and refuses those that wait. May be called again.
  void Stop();

  // Of a TCP socket; 0 for a unix one.
  int port() const { return port_; }

 private:
  Acceptor(std::string address, Fd listener, Fd stop)
      : address_(std::move(address)), listener_(std::move(listener)), stop_(std::move(stop)) {}
  static absl::StatusOr<std::unique_ptr<Acceptor>> Make(const std::string& address, int domain);
  absl::Status Listen();
  void Run(const Handler& handler);
  void AcceptOne(const Handler& handler);
  // False when the acceptor is to stop.
  bool Await(int fd, int millis) const;
  void Refuse(absl::string_view why);

  const std::string address_;
  Fd listener_;
  const Fd stop_;  // readable once the thread must end
  int port_ = 0;
  std::string path_;  // to remove
  std::shared_ptr<ConnectionLimit> limit_;
  bool refusing_ = false;
  std::thread thread_;
};

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_ACCEPTOR_H_
