#ifndef DROVER_VMM_WORKER_CONTROL_SERVER_H_
#define DROVER_VMM_WORKER_CONTROL_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"
#include "vmm/base/unix_channel.h"
#include "vmm/worker/control_proto.h"

namespace drover {

// The worker's end of the control socket: takes connections, of which the newest is the agent's
// (an older one is closed), gives requests to its handler one at a time, and sends the answers and
// events. Reads no next request before the one in progress is answered. A peer that sends what is
// no request, or does not read what it is sent, loses its connection; nothing blocks the loop.
// Loop-bound. The handler must outlive it.
class ControlServer {
 public:
  struct Answer {
    absl::Status status;
    ControlBody body;
    Fd descriptor;  // sent along where it is valid
  };
  // Answers one request, at once or later, on the loop, at most once. An answer that comes after
  // its connection has been closed goes nowhere.
  using Responder = std::function<void(Answer)>;
  using Handler = std::function<void(const ControlCall& call, Responder respond)>;

  // `listener` is a listening SOCK_SEQPACKET socket; it is made non-blocking. `on_closed` (may be
  // empty) is called when the agent's connection has ended and no newer one has replaced it.
  static absl::StatusOr<std::unique_ptr<ControlServer>> Create(EventLoop* loop, Fd listener,
                                                               Handler handler,
                                                               std::function<void()> on_closed);
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  // Sends `machine` with sequence 0 to the agent, if one is connected. What changes while a request
  // is handled is told once, as it is in the end, and not at all where the answer tells it.
  void SendEvent(const MachineStatus& machine);
  bool connected() const { return channel_.valid(); }

 private:
  ControlServer(EventLoop* loop, Fd listener, Handler handler, std::function<void()> on_closed);
  void Accept();
  void OnEvents(uint32_t events);
  void Dispatch(const ControlRequest& request);
  void Respond(uint64_t connection, uint64_t sequence, Answer answer);
  void SendHeldEvent();
  void SendOrClose(const std::string& bytes, const Fd& descriptor);
  void Drop();
  void Close(absl::string_view why);

  EventLoop* const loop_;
  const Fd listener_;
  const Handler handler_;
  const std::function<void()> on_closed_;
  UnixChannel channel_;
  uint64_t connection_ = 0;  // counts connections, to know late answers
  std::optional<uint64_t> pending_;
  bool handling_ = false;
  std::optional<MachineStatus> event_;  // of the request that is being handled
  // Responders hold it weakly: they may be called after the server has gone.
  std::shared_ptr<ControlServer*> self_;
};

}  // namespace drover

#endif  // DROVER_VMM_WORKER_CONTROL_SERVER_H_
