#include "agent/cli/console_command.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "agent/cli/console_escape.h"
#include "agent/cli/raw_terminal.h"
#include "agent/cli/report.h"
#include "vmm/base/fd.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

using Stream = grpc::ClientReaderWriter<v1::StreamConsoleRequest, v1::StreamConsoleResponse>;

constexpr size_t kInputBytes = 4096;
constexpr int kSignalExitBase = 128;

// One visit to a console: a thread carries the input, the caller's thread the output.
class Visit {
 public:
  Visit(const CommandContext& context, Fd wake)
      : context_(context),
        wake_(std::move(wake)),
        escape_(context.io.in_is_tty && !context.args.Has("escape")) {}

  int Run() {
    stream_ = context_.agent.vms().StreamConsole(&call_);
    v1::StreamConsoleRequest first;
    first.set_vm_id(context_.id());
    stream_->Write(first);
    stream_->WaitForInitialMetadata();  // attached, or refused
    const SignalCatcher signals(wake_.get());
    grpc::Status status;
    {
      const RawTerminal raw(context_.io.in_is_tty ? context_.io.in_fd : -1);
      std::thread input([this] { CarryInput(); });
      CarryOutput();
      ended_ = true;
      eventfd_write(wake_.get(), 1);
      input.join();
      status = stream_->Finish();
    }
    return Conclude(status);
  }

 private:
  void CarryOutput() {
    v1::StreamConsoleResponse response;
    while (stream_->Read(&response)) {
      if (response.lost_bytes() > 0)
        context_.io.err << "drover: " << response.lost_bytes() << " bytes were lost before this\r\n"
                        << std::flush;
      if (WriteAll(context_.io.out_fd, response.output()).ok()) continue;
      call_.TryCancel();  // nobody reads us
      left_ = true;
    }
  }

  void CarryInput() {
    struct pollfd polls[] = {{wake_.get(), POLLIN, 0}, {context_.io.in_fd, POLLIN, 0}};
    while (poll(polls, 2, -1) >= 0 || errno == EINTR) {
      if (polls[0].revents != 0) break;
      if (polls[1].revents != 0 && !CarryOnce()) polls[1].fd = -1;
      if (left_) break;
    }
    if (!ended_) call_.TryCancel();
  }

  // False at the input's end.
  bool CarryOnce() {
    char buffer[kInputBytes];
    const ssize_t n = read(context_.io.in_fd, buffer, sizeof(buffer));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    if (n <= 0) {
      stream_->WritesDone();
      return false;
    }
    v1::StreamConsoleRequest request;
    request.set_input(escape_.Filter({buffer, static_cast<size_t>(n)}));
    if (!request.input().empty()) stream_->Write(request);
    left_ = escape_.left();
    return true;
  }

  int Conclude(const grpc::Status& status) {
    if (SignalCatcher::Caught() != 0) return kSignalExitBase + SignalCatcher::Caught();
    if (!left_) {
      if (status.ok() && context_.io.in_is_tty) context_.io.err << "\nthe VM has ended\n";
      return ReportRpcError(status, context_);
    }
    if (context_.io.in_is_tty) context_.io.err << "\nleft the console; the VM runs on\n";
    return kExitOk;
  }

  const CommandContext& context_;
  const Fd wake_;
  ConsoleEscape escape_;
  grpc::ClientContext call_;
  std::unique_ptr<Stream> stream_;
  std::atomic<bool> left_{false};
  std::atomic<bool> ended_{false};
};

}  // namespace

int RunConsoleCommand(const CommandContext& context) {
  absl::StatusOr<Fd> wake = MakeEventFd();
  if (!wake.ok()) {
    context.io.err << "drover: " << std::string(wake.status().message()) << "\n";
    return kExitError;
  }
  return Visit(context, *std::move(wake)).Run();
}

}  // namespace drover
