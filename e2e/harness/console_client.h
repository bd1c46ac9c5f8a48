#ifndef DROVER_E2E_HARNESS_CONSOLE_CLIENT_H_
#define DROVER_E2E_HARNESS_CONSOLE_CLIENT_H_

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "proto/drover/v1/vm.grpc.pb.h"
#include "vmm/base/mutex.h"

namespace drover {

// One StreamConsole call, read by a thread of its own. Thread-safe.
class ConsoleClient {
 public:
  ConsoleClient(v1::VmService::Stub* vms, const std::string& vm_id);
  ~ConsoleClient();

  // Waits, at most `patience`, for `text` after what earlier calls have consumed; returns the
  // output up to and with it. The error holds what came instead.
  absl::StatusOr<std::string> Expect(const std::string& text,
                                     std::chrono::seconds patience = std::chrono::seconds(60));
  // Sends bytes to the guest.
  bool Send(const std::string& input);
  // Sends a line and waits for the answer that begins with "ok" or "error" on a line of its own;
  // returns that line.
  absl::StatusOr<std::string> Command(const std::string& line);

  // Everything that came so far; and what the stream said was lost.
  std::string Output();
  int64_t LostBytes();
  // Waits for the stream's end by the server.
  grpc::Status WaitForEnd();

 private:
  void ReadAll();

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::StreamConsoleRequest, v1::StreamConsoleResponse>>
      stream_;
  Mutex mutex_;
  CondVar changed_;
  std::string output_ ABSL_GUARDED_BY(mutex_);
  size_t consumed_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t lost_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread reader_;
};

}  // namespace drover

#endif  // DROVER_E2E_HARNESS_CONSOLE_CLIENT_H_
