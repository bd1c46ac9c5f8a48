#include "agent/worker/worker_connection.h"

#include <sys/epoll.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

// So many messages are read before other workers get their turn.
constexpr int kMessagesPerTurn = 16;
// A worker that sends more than so many events in a window is not listened to for a pause.
constexpr int kEventsPerWindow = 64;
constexpr std::chrono::milliseconds kWindow(100);

absl::Status Unresponsive(absl::string_view what) {
  return WithReason(
      absl::UnavailableError(absl::StrCat("the VM's worker does not answer (", what, ") in time")),
      "WORKER_UNRESPONSIVE");
}

absl::Status Gone(absl::string_view why) {
  return WithReason(
      absl::UnavailableError(absl::StrCat("the connection to the VM's worker has ended: ", why)),
      "WORKER_GONE");
}

}  // namespace

void WorkerConnection::Open() {
  loop_->Post([self = shared_from_this()] { self->Watch(); });
}

void WorkerConnection::Watch() {
  if (closed() || watched_) return;
  // The callback keeps the connection alive; Close ends the watch.
  const absl::Status status = loop_->loop()->Watch(
      channel_.fd(), EPOLLIN, [self = shared_from_this()](uint32_t) { self->OnReadable(); });
  watched_ = status.ok();
  if (!status.ok()) Close(status);
}

void WorkerConnection::Close(const absl::Status& why) {
  {
    MutexLock lock(&mutex_);
    if (!closed_.ok()) return;
    closed_ = Gone(why.message());
    for (const auto& [sequence, pending] : pending_)
      if (pending.waiter != nullptr) pending.waiter->Signal();
  }
  loop_->Post([self = shared_from_this()] {
    if (self->watched_) self->loop_->loop()->Unwatch(self->channel_.fd());
    self->watched_ = false;
    if (self->callbacks_.on_closed) self->callbacks_.on_closed();
  });
}

bool WorkerConnection::closed() const {
  MutexLock lock(&mutex_);
  return !closed_.ok();
}

void WorkerConnection::KeepAlive(WorkerClient::Limit period, WorkerClient::Limit limit) {
  loop_->PostAfter(period, [weak = weak_from_this(), period, limit] {
    if (const auto self = weak.lock()) self->Ask(period, limit);
  });
}

// A greeting is what costs the worker least.
void WorkerConnection::Ask(WorkerClient::Limit period, WorkerClient::Limit limit) {
  if (closed()) return;
  if (IsBusy()) return KeepAlive(period, limit);
  const absl::StatusOr<uint64_t> sequence = Send(WorkerCall::kHello, {});
  if (!sequence.ok()) return Close(sequence.status());
  loop_->PostAfter(limit, [weak = weak_from_this(), sequence = *sequence, period, limit] {
    const auto self = weak.lock();
    if (self == nullptr || self->closed()) return;
    if (!self->TakeProof(sequence)) return self->Close(Unresponsive("a greeting"));
    self->KeepAlive(period, limit);
  });
}

bool WorkerConnection::IsBusy() const {
  MutexLock lock(&mutex_);
  return !pending_.empty();
}

// Whether the worker has answered that call, or cannot yet, since it works on an earlier one.
bool WorkerConnection::TakeProof(uint64_t sequence) {
  MutexLock lock(&mutex_);
  const auto it = pending_.find(sequence);
  const bool excused = it != pending_.begin();
  const bool answered = it->second.done;
  pending_.erase(it);
  return answered || excused;
}

absl::StatusOr<uint64_t> WorkerConnection::Send(WorkerCall call, const MachineConfig& config) {
  absl::Status status;
  {
    MutexLock lock(&mutex_);
    if (!closed_.ok()) return closed_;
    const uint64_t sequence = next_sequence_++;
    status = channel_.Send(EncodeWorkerRequest(sequence, call, config));  // never blocks
    if (status.ok()) {
      pending_[sequence];
      return sequence;
    }
  }
  if (absl::IsResourceExhausted(status)) return Unresponsive("its queue is full");
  Close(status);
  return Gone(status.message());
}

absl::StatusOr<WorkerConnection::Answer> WorkerConnection::Await(
    uint64_t sequence, WorkerCall call, std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(&mutex_);
  const auto it = pending_.find(sequence);
  DROVER_CHECK(it != pending_.end());
  const auto answered = std::make_shared<CondVar>();
  it->second.waiter = answered;
  while (!it->second.done && closed_.ok())
    if (!answered->WaitUntil(&mutex_, deadline) && std::chrono::steady_clock::now() >= deadline)
      break;
  Pending pending = std::move(it->second);
  pending_.erase(it);
  if (pending.done) return std::move(pending.answer);
  return closed_.ok() ? Unresponsive(WorkerCallName(call)) : closed_;
}

void WorkerConnection::OnReadable() {
  for (int i = 0; i < kMessagesPerTurn && watched_; ++i)
    if (!ReceiveOne()) return;
}

bool WorkerConnection::ReceiveOne() {
  if (closed()) return false;
  absl::StatusOr<ChannelMessage> message = channel_.Receive(std::chrono::milliseconds(0));
  if (absl::IsDeadlineExceeded(message.status())) return false;
  if (!message.ok()) {
    Close(message.status());
    return false;
  }
  absl::StatusOr<WorkerAnswer> answer = DecodeWorkerAnswer(message->bytes);
  if (!answer.ok()) {
    Log(LogLevel::kWarning, "a worker misbehaves", {{"error", answer.status().message()}});
    Close(answer.status());
    return false;
  }
  Deliver({*std::move(answer), std::move(message->fds)});
  return true;
}

void WorkerConnection::Deliver(Answer answer) {
  const bool event = answer.answer.sequence == 0;
  if (answer.answer.machine.has_value() && answer.answer.status.ok() && callbacks_.on_report &&
      (event || !answer.answer.greeting.has_value()))
    callbacks_.on_report(*answer.answer.machine);
  if (event || !TakeAnswer(&answer)) CountUnsolicited();
}

// False when nobody waits for it.
bool WorkerConnection::TakeAnswer(Answer* answer) {
  std::shared_ptr<CondVar> waiter;
  {
    MutexLock lock(&mutex_);
    const auto it = pending_.find(answer->answer.sequence);
    if (it == pending_.end() || it->second.done) return false;
    it->second.answer = std::move(*answer);
    it->second.done = true;
    waiter = it->second.waiter;
  }
  if (waiter != nullptr) waiter->Signal();  // unlocked, or it would wake to wait for the lock
  return true;
}

void WorkerConnection::CountUnsolicited() {
  const auto now = std::chrono::steady_clock::now();
  if (now - window_ > kWindow) {
    window_ = now;
    unsolicited_ = 0;
  }
  if (++unsolicited_ <= kEventsPerWindow || !watched_) return;
  loop_->loop()->Unwatch(channel_.fd());
  watched_ = false;
  loop_->loop()->RunAfter(kWindow, [self = shared_from_this()] { self->Watch(); });
}

}  // namespace drover
