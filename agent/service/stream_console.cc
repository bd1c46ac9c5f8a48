#include "agent/service/stream_console.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <atomic>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/errors/field_violations.h"
#include "agent/service/rpc_status.h"
#include "vmm/base/fd.h"
#include "vmm/base/status.h"

namespace drover {

// What the streams share with their owner, which may be gone before the last of them.
struct ConsoleStreams::Shared {
  const BackendGate* gate;
  ConsoleStreamOptions options;
  Fd stop;  // readable once the streams must end
  std::atomic<int> active{0};
};

namespace {

using Reactor = ConsoleStreams::Reactor;
using Shared = ConsoleStreams::Shared;
using SteadyClock = std::chrono::steady_clock;

constexpr size_t kMaxInputBytes = 64 * 1024;
constexpr size_t kOutputBytes = 32 * 1024;

void Notify(const Fd& event) { eventfd_write(event.get(), 1); }

bool Readable(const struct pollfd& poll) { return (poll.revents & POLLIN) != 0; }

// Says no.
class RefusedStream final : public Reactor {
 public:
  explicit RefusedStream(const absl::Status& status) { Finish(ToGrpcStatus(status)); }
  void OnDone() override { delete this; }
};

// One call. gRPC's callbacks note what happened and wake the stream's thread, which owns everything
// else. The thread's last act is Finish; OnDone, which gRPC calls after that and after the last
// callback, deletes the stream.
class ConsoleStream final : public Reactor {
 public:
  ConsoleStream(std::shared_ptr<Shared> shared, Fd wake)
      : shared_(std::move(shared)), wake_(std::move(wake)) {}
  ~ConsoleStream() override { --shared_->active; }

  void Run() {
    StartRead(&request_);
    const absl::Status status = Serve();
    AwaitWrite();
    Finish(ToGrpcStatus(status, {{"vm_id", vm_id_}}));
  }

  void OnReadDone(bool ok) override {
    MutexLock lock(&mutex_);
    events_.read = ok ? Read::kArrived : Read::kEnded;
    Notify(wake_);
  }
  void OnWriteDone(bool ok) override {
    MutexLock lock(&mutex_);
    events_.writing = false;
    events_.cancelled |= !ok;
    Notify(wake_);
  }
  void OnCancel() override {
    MutexLock lock(&mutex_);
    events_.cancelled = true;
    Notify(wake_);
  }
  void OnDone() override { delete this; }

 private:
  enum class Read { kPending, kArrived, kEnded };
  struct Events {
    Read read = Read::kPending;
    bool writing = false;
    bool cancelled = false;
  };

  Events Look() {
    MutexLock lock(&mutex_);
    return events_;
  }

  absl::Status Serve();
  absl::Status AwaitFirstMessage();
  absl::Status Pump();
  absl::Status TakeMessage();
  absl::Status Wait(short socket_events, SteadyClock::time_point deadline, short* ready);
  absl::StatusOr<bool> ForwardOutput();
  absl::StatusOr<bool> GoOnBehindAGap();
  void TellLoss(uint64_t upto);
  void ForwardInput();
  void Respond();
  void AwaitWrite();

  const std::shared_ptr<Shared> shared_;
  const Fd wake_;
  std::string vm_id_;
  Fd socket_;
  uint64_t position_ = 0;               // the bytes of output that were passed on or told lost
  bool responded_ = false;              // with a message at least
  std::string input_;                   // taken from the client, not yet with the guest
  v1::StreamConsoleRequest request_;    // gRPC's while a read is pending
  v1::StreamConsoleResponse response_;  // gRPC's while a write is in progress

  Mutex mutex_;
  Events events_ ABSL_GUARDED_BY(mutex_);
};

absl::Status ConsoleStream::Serve() {
  RETURN_IF_ERROR(AwaitFirstMessage());
  vm_id_ = request_.vm_id();
  if (vm_id_.empty())
    return InvalidFields({{"vm_id", "is required in the first message of the stream"}});
  ASSIGN_OR_RETURN(VmBackend * vms, shared_->gate->Pass());
  ASSIGN_OR_RETURN(ConsoleAttachment console, vms->AttachConsole(vm_id_));
  socket_ = std::move(console.socket);
  request_.clear_vm_id();
  if (console.lost_bytes > 0) {
    TellLoss(console.lost_bytes);
  } else {
    ASSIGN_OR_RETURN(const bool open, ForwardOutput());
    if (!open) return absl::OkStatus();
  }
  // A first message takes the metadata along.
  if (!responded_) StartSendInitialMetadata();
  return Pump();
}

absl::Status ConsoleStream::AwaitFirstMessage() {
  const auto deadline = SteadyClock::now() + shared_->options.first_message_timeout;
  while (true) {
    const Events events = Look();
    if (events.cancelled) return absl::CancelledError("the client went away");
    if (events.read == Read::kArrived) return absl::OkStatus();
    if (events.read == Read::kEnded)
      return InvalidFields({{"vm_id", "is required: the stream ended without any message"}});
    short ready;
    RETURN_IF_ERROR(Wait(0, deadline, &ready));
  }
}

absl::Status ConsoleStream::Pump() {
  while (true) {
    const Events events = Look();
    if (events.cancelled) return absl::CancelledError("the client went away");
    if (events.read == Read::kArrived && input_.empty()) RETURN_IF_ERROR(TakeMessage());
    const short wanted =
        static_cast<short>((events.writing ? 0 : POLLIN) | (input_.empty() ? 0 : POLLOUT));
    short ready = 0;
    RETURN_IF_ERROR(Wait(wanted, SteadyClock::time_point::max(), &ready));
    if (!input_.empty() && (ready & (POLLOUT | POLLERR | POLLHUP)) != 0) ForwardInput();
    if (events.writing || (ready & (POLLIN | POLLERR | POLLHUP)) == 0) continue;
    ASSIGN_OR_RETURN(const bool open, ForwardOutput());
    if (!open) return absl::OkStatus();
  }
}

// Takes the message that arrived and asks for the next.
absl::Status ConsoleStream::TakeMessage() {
  if (!request_.vm_id().empty())
    return InvalidFields({{"vm_id", "must be set in the stream's first message only"}});
  if (request_.input().size() > kMaxInputBytes)
    return InvalidFields(
        {{"input", absl::StrCat("has ", request_.input().size(), " bytes; at most ", kMaxInputBytes,
                                " go into one message")}});
  input_.swap(*request_.mutable_input());
  request_.Clear();
  {
    MutexLock lock(&mutex_);
    events_.read = Read::kPending;
  }
  StartRead(&request_);
  return absl::OkStatus();
}

// Waits for the socket (not at all where `socket_events` is 0), a callback or the end of all
// streams.
absl::Status ConsoleStream::Wait(short socket_events, SteadyClock::time_point deadline,
                                 short* ready) {
  struct pollfd polls[] = {{wake_.get(), POLLIN, 0},
                           {shared_->stop.get(), POLLIN, 0},
                           {socket_events == 0 ? -1 : socket_.get(), socket_events, 0}};
  int timeout = -1;
  if (deadline != SteadyClock::time_point::max()) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - SteadyClock::now()).count();
    if (left <= 0)
      return WithReason(absl::DeadlineExceededError("no message came that names the VM (vm_id)"),
                        "NO_FIRST_MESSAGE");
    timeout = static_cast<int>(left);
  }
  if (poll(polls, std::size(polls), timeout) < 0 && errno != EINTR)
    return PosixStatus(errno, "poll", "console");
  if (Readable(polls[1]))
    return WithReason(absl::UnavailableError("the agent is stopping; attach to the next"),
                      "AGENT_STOPPING");
  eventfd_t count;
  if (Readable(polls[0])) eventfd_read(wake_.get(), &count);
  *ready = polls[2].revents;
  return absl::OkStatus();
}

// False at the console's end.
absl::StatusOr<bool> ConsoleStream::ForwardOutput() {
  response_.clear_lost_bytes();
  std::string* output = response_.mutable_output();
  output->resize(kOutputBytes);
  const ssize_t n = recv(socket_.get(), output->data(), output->size(), MSG_DONTWAIT);
  const int error = errno;
  output->resize(n > 0 ? static_cast<size_t>(n) : 0);
  if (n > 0) {
    position_ += static_cast<uint64_t>(n);
    Respond();
    return true;
  }
  if (n == 0 || error == ECONNRESET) return GoOnBehindAGap();
  if (error == EAGAIN || error == EINTR) return true;
  return PosixStatus(error, "recv", "console");
}

// The worker hangs up at its end, and on a client that reads too slowly. Only of the latter has it
// output that was never passed on and is not kept any more: true, and the stream goes on there.
absl::StatusOr<bool> ConsoleStream::GoOnBehindAGap() {
  ASSIGN_OR_RETURN(VmBackend * vms, shared_->gate->Pass());
  absl::StatusOr<ConsoleAttachment> console = vms->AttachConsole(vm_id_);
  const absl::Status& status = console.status();
  if (absl::IsFailedPrecondition(status) || absl::IsNotFound(status) || absl::IsUnavailable(status))
    return false;  // it has ended
  if (!status.ok()) return status;
  if (console->lost_bytes <= position_) return false;
  socket_ = std::move(console->socket);
  TellLoss(console->lost_bytes);
  return true;
}

void ConsoleStream::TellLoss(uint64_t upto) {
  response_.clear_output();
  response_.set_lost_bytes(static_cast<int64_t>(upto - position_));
  position_ = upto;
  Respond();
}

void ConsoleStream::ForwardInput() {
  const ssize_t n = send(socket_.get(), input_.data(), input_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n >= 0) input_.erase(0, static_cast<size_t>(n));
  // The console's end is ForwardOutput's to find: what it said last comes first.
  if (n < 0 && errno != EAGAIN && errno != EINTR) input_.clear();
}

void ConsoleStream::Respond() {
  responded_ = true;
  {
    MutexLock lock(&mutex_);
    events_.writing = true;
  }
  StartWrite(&response_);
}

// gRPC must not Finish over a write in progress. It ends when the client reads, goes away, or the
// server's shutdown cancels the call.
void ConsoleStream::AwaitWrite() {
  while (Look().writing) {
    struct pollfd wake = {wake_.get(), POLLIN, 0};
    eventfd_t count;
    if (poll(&wake, 1, -1) > 0) eventfd_read(wake_.get(), &count);
  }
}

absl::StatusOr<Reactor*> StartStream(const std::shared_ptr<Shared>& shared, Executor* threads) {
  ASSIGN_OR_RETURN(Fd wake, MakeEventFd());
  if (shared->active.fetch_add(1) >= shared->options.max_streams) {
    --shared->active;
    return WithReason(absl::ResourceExhaustedError(absl::StrCat("this agent serves at most ",
                                                                shared->options.max_streams,
                                                                " consoles at once; close one")),
                      "TOO_MANY_CONSOLES");
  }
  auto stream = std::make_unique<ConsoleStream>(shared, std::move(wake));
  try {
    if (!threads->Post([raw = stream.get()] { raw->Run(); }))
      return absl::UnavailableError("the agent has stopped");
  } catch (const std::system_error& error) {
    return WithReason(absl::ResourceExhaustedError(absl::StrCat("no thread: ", error.what())),
                      "TOO_MANY_CONSOLES");
  }
  return stream.release();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ConsoleStreams>> ConsoleStreams::Create(
    const BackendGate* gate, ConsoleStreamOptions options) {
  auto shared = std::make_shared<Shared>();
  shared->gate = gate;
  shared->options = options;
  ASSIGN_OR_RETURN(shared->stop, MakeEventFd());
  return std::unique_ptr<ConsoleStreams>(new ConsoleStreams(std::move(shared)));
}

ConsoleStreams::ConsoleStreams(std::shared_ptr<Shared> shared)
    : shared_(std::move(shared)), threads_(static_cast<size_t>(shared_->options.max_streams)) {}

Reactor* ConsoleStreams::Open() {
  const absl::StatusOr<Reactor*> stream = StartStream(shared_, &threads_);
  return stream.ok() ? *stream : new RefusedStream(stream.status());
}

void ConsoleStreams::Shutdown() { Notify(shared_->stop); }

int ConsoleStreams::active() const { return shared_->active; }

}  // namespace drover
