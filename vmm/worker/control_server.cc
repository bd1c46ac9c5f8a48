#include "vmm/worker/control_server.h"

#include <fcntl.h>
#include <sys/epoll.h>

#include <cerrno>
#include <string>
#include <utility>

#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {

ControlServer::ControlServer(EventLoop* loop, Fd listener, Handler handler,
                             std::function<void()> on_closed)
    : loop_(loop),
      listener_(std::move(listener)),
      handler_(std::move(handler)),
      on_closed_(std::move(on_closed)),
      self_(std::make_shared<ControlServer*>(this)) {}

absl::StatusOr<std::unique_ptr<ControlServer>> ControlServer::Create(
    EventLoop* loop, Fd listener, Handler handler, std::function<void()> on_closed) {
  const int flags = fcntl(listener.get(), F_GETFL);
  if (flags < 0 || fcntl(listener.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    return PosixStatus(errno, "O_NONBLOCK", "control socket");
  std::unique_ptr<ControlServer> server(
      new ControlServer(loop, std::move(listener), std::move(handler), std::move(on_closed)));
  RETURN_IF_ERROR(loop->Watch(server->listener_.get(), EPOLLIN,
                              [raw = server.get()](uint32_t) { raw->Accept(); }));
  return server;
}

ControlServer::~ControlServer() {
  Drop();
  loop_->Unwatch(listener_.get());
}

void ControlServer::Accept() {
  absl::StatusOr<UnixChannel> channel = AcceptUnix(listener_.get());
  if (absl::IsUnavailable(channel.status())) return;
  absl::Status status = channel.status();
  if (status.ok()) status = channel->SetNonBlocking();
  if (!status.ok()) {
    Log(LogLevel::kError, "control socket", {{"error", status.message()}});
    return;
  }
  if (channel_.valid()) Log(LogLevel::kInfo, "a newer agent took the control socket over");
  Drop();
  channel_ = *std::move(channel);
  ++connection_;
  status = loop_->Watch(channel_.fd(), EPOLLIN, [this](uint32_t events) { OnEvents(events); });
  if (!status.ok()) Close(status.message());
}

void ControlServer::OnEvents(uint32_t events) {
  if (pending_.has_value()) {
    // Requests wait; only the end of the connection is of interest.
    if (events & (EPOLLHUP | EPOLLERR)) Close("closed by the agent");
    return;
  }
  absl::StatusOr<ChannelMessage> message = channel_.Receive(std::chrono::milliseconds(0));
  if (absl::IsDeadlineExceeded(message.status())) return;
  if (!message.ok()) return Close(message.status().message());
  const absl::StatusOr<ControlRequest> request = ParseControlRequest(message->bytes);
  if (!request.ok()) return Close(request.status().message());
  Dispatch(*request);
}

void ControlServer::Dispatch(const ControlRequest& request) {
  pending_ = request.sequence;
  const uint64_t connection = connection_;
  handling_ = true;
  handler_(request.call, [weak = std::weak_ptr<ControlServer*>(self_), connection,
                          sequence = request.sequence](Answer answer) {
    if (const auto self = weak.lock()) (*self)->Respond(connection, sequence, std::move(answer));
  });
  handling_ = false;
  SendHeldEvent();
  // Not answered yet: stop reading until it is.
  if (connection_ == connection && pending_.has_value() && channel_.valid())
    (void)loop_->Modify(channel_.fd(), 0);
}

void ControlServer::Respond(uint64_t connection, uint64_t sequence, Answer answer) {
  if (connection != connection_ || !channel_.valid() || pending_ != sequence) return;
  pending_.reset();
  if (answer.status.ok() && std::holds_alternative<MachineStatus>(answer.body)) event_.reset();
  SendHeldEvent();
  const std::string bytes = SerializeControlResponse(sequence, answer.status, answer.body);
  SendOrClose(bytes, answer.descriptor);
  if (channel_.valid()) (void)loop_->Modify(channel_.fd(), EPOLLIN);
}

void ControlServer::SendEvent(const MachineStatus& machine) {
  event_ = machine;
  if (!handling_) SendHeldEvent();
}

void ControlServer::SendHeldEvent() {
  if (!event_.has_value()) return;
  const std::string bytes =
      SerializeControlResponse(0, absl::OkStatus(), *std::exchange(event_, std::nullopt));
  if (channel_.valid()) SendOrClose(bytes, Fd());
}

void ControlServer::SendOrClose(const std::string& bytes, const Fd& descriptor) {
  const int fd = descriptor.get();
  const absl::Status status =
      fd < 0 ? channel_.Send(bytes) : channel_.Send(bytes, absl::MakeConstSpan(&fd, 1));
  if (!status.ok()) Close(status.message());
}

void ControlServer::Drop() {
  if (!channel_.valid()) return;
  loop_->Unwatch(channel_.fd());
  channel_.Close();
  pending_.reset();
}

void ControlServer::Close(absl::string_view why) {
  Drop();
  Log(LogLevel::kInfo, "the agent's connection ended", {{"why", why}});
  if (on_closed_) on_closed_();
}

}  // namespace drover
