#ifndef DROVER_E2E_WORKER_WORKER_PROCESS_H_
#define DROVER_E2E_WORKER_WORKER_PROCESS_H_

#include <sys/types.h>

#include <deque>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/worker/v1/worker.pb.h"
#include "vmm/base/fd.h"
#include "vmm/base/unix_channel.h"

namespace drover {

// A real drover-vmm process, started by the descriptor contract as drover-helper does it, but
// without a jail; and the agent's side of its control socket. For tests; thread-compatible. Its end
// kills the process.
class WorkerProcess {
 public:
  // Starts `binary --worker` and lets it wait for its launch. Its files are in a new directory
  // under /tmp.
  static absl::StatusOr<std::unique_ptr<WorkerProcess>> Start(const std::string& binary);
  ~WorkerProcess();

  // Sends the launch message. An empty initrd path: none.
  absl::Status Launch(const std::string& kernel_path, const std::string& initrd_path = "");
  // Closes the launch channel without a message.
  void HangUp() { channel_.Close(); }
  // Connects (again) to the control socket.
  absl::Status Connect();

  // Sends the request and returns its answer; events that come before it are kept. The answer's own
  // status becomes the result's where it is an error. A descriptor that comes along is in
  // `descriptor`, when not null.
  absl::StatusOr<worker::v1::WorkerResponse> Call(worker::v1::WorkerRequest request,
                                                  Fd* descriptor = nullptr);
  // The next event, at most a minute from now.
  absl::StatusOr<worker::v1::MachineStatus> NextEvent();
  // Drops events until the machine is in `state`.
  absl::StatusOr<worker::v1::MachineStatus> WaitForState(worker::v1::MachineState state);

  // Hello, Configure, AttachConsole and Start, in that order.
  absl::Status Boot(uint32_t vcpus, uint64_t memory_bytes, const std::string& command_line);
  // Console output up to and including `text`, at most a minute from now.
  absl::StatusOr<std::string> ReadUntil(absl::string_view text);
  absl::Status Type(absl::string_view text);
  const Fd& console() const { return console_; }
  // Ends the connection to the control socket.
  void Disconnect() { control_.Close(); }

  // Waits for the process's end: its wait status.
  absl::StatusOr<int> Wait();
  absl::StatusOr<worker::v1::LastWords> ReadLastWords() const;
  absl::StatusOr<std::string> ReadLog() const;
  pid_t pid() const { return pid_; }

 private:
  WorkerProcess() = default;
  absl::StatusOr<worker::v1::WorkerResponse> Receive(Fd* descriptor);
  std::string Path(absl::string_view name) const { return directory_ + "/" + std::string(name); }

  std::string directory_;
  pid_t pid_ = -1;
  UnixChannel channel_;
  UnixChannel control_;
  uint64_t sequence_ = 0;
  std::deque<worker::v1::MachineStatus> events_;
  Fd console_;
  std::string console_text_;  // read, and not yet returned
};

}  // namespace drover

#endif  // DROVER_E2E_WORKER_WORKER_PROCESS_H_
