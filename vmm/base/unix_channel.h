#ifndef DROVER_VMM_BASE_UNIX_CHANNEL_H_
#define DROVER_VMM_BASE_UNIX_CHANNEL_H_

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "vmm/base/fd.h"

namespace drover {

// One message of a channel: bytes, and descriptors that came with it (SCM_RIGHTS), close-on-exec.
struct ChannelMessage {
  std::string bytes;
  std::vector<Fd> fds;
};

// One end of a connected SOCK_SEQPACKET unix socket: whole messages, each with up to kMaxFds
// descriptors. Thread-compatible; Send and Receive may run on two threads at once.
class UnixChannel {
 public:
  static constexpr size_t kMaxMessageBytes = 128 * 1024;
  static constexpr size_t kMaxFds = 16;

  UnixChannel() = default;
  explicit UnixChannel(Fd socket) : socket_(std::move(socket)) {}

  // Two connected ends, close-on-exec.
  static absl::StatusOr<std::pair<UnixChannel, UnixChannel>> Pair();
  // Connects to the listening socket at `path` (any length: relative to its directory where it is
  // too long). UNAVAILABLE (EAGAIN) when the listener's queue stays full for 2 seconds.
  static absl::StatusOr<UnixChannel> Connect(const std::string& path);

  // Sends one message. RESOURCE_EXHAUSTED when the peer's queue is full (non-blocking channel) or
  // the message is larger than kMaxMessageBytes; UNAVAILABLE when the peer is gone. Never raises
  // SIGPIPE.
  absl::Status Send(absl::string_view bytes, absl::Span<const int> fds = {});

  // Receives one message. UNAVAILABLE "closed" at the end; DEADLINE_EXCEEDED when `timeout` passes
  // first (negative: none; zero: do not wait); INVALID_ARGUMENT for a message that is too long or
  // has too many descriptors (it is dropped, its descriptors closed).
  absl::StatusOr<ChannelMessage> Receive(
      std::chrono::milliseconds timeout = std::chrono::milliseconds(-1));

  // Sets O_NONBLOCK, which governs Send.
  absl::Status SetNonBlocking();

  int fd() const { return socket_.get(); }
  bool valid() const { return socket_.valid(); }
  Fd Release() { return std::move(socket_); }
  void Close() { socket_.Reset(); }

 private:
  Fd socket_;
};

// Binds a listening SOCK_SEQPACKET socket at `path` (any length), with `mode`; replaces a stale one
// of that name.
absl::StatusOr<Fd> ListenUnix(const std::string& path, unsigned mode);

// Accepts one connection: UNAVAILABLE when none waits (non-blocking listener).
absl::StatusOr<UnixChannel> AcceptUnix(int listener);

}  // namespace drover

#endif  // DROVER_VMM_BASE_UNIX_CHANNEL_H_
