#ifndef DROVER_AGENT_SERVICE_UNIX_ACCEPTOR_H_
#define DROVER_AGENT_SERVICE_UNIX_ACCEPTOR_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/fd.h"

namespace drover {

// Accepts the connections to a unix socket, on a thread of its own, and hands them on. A quarter of
// the process's descriptors is kept for everything else: a connection that would take of it is
// closed at once, so that no crowd of clients starves the agent. (gRPC 1.51's own listener never
// accepts again once descriptors have run out.) Thread-safe.
class UnixAcceptor {
 public:
  // Gets each connection, nonblocking, on the acceptor's thread.
  using Handler = std::function<void(Fd)>;

  // Binds `path`, where there is nothing, with mode 0660 and listens. Sets the process's umask for
  // a moment. A path that does not fit a socket address is INVALID_ARGUMENT; other errors are the
  // system calls'.
  static absl::StatusOr<std::unique_ptr<UnixAcceptor>> Listen(const std::string& path);
  // Stops, and removes the socket.
  ~UnixAcceptor();

  // Begins to accept; once.
  void Start(Handler handler);
  // Hands on no more connections, and refuses those that wait. May be called again.
  void Stop();

 private:
  UnixAcceptor(std::string path, Fd listener, Fd stop);
  void Run(const Handler& handler);
  void AcceptOne(const Handler& handler);
  // False when the acceptor is to stop.
  bool Await(int fd, int millis) const;
  void Refuse(absl::string_view why);

  const std::string path_;
  Fd listener_;
  const Fd stop_;  // readable once the thread must end
  bool refusing_ = false;
  std::thread thread_;
};

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_UNIX_ACCEPTOR_H_
