#ifndef DROVER_AGENT_HELPER_HELPER_PROCESS_H_
#define DROVER_AGENT_HELPER_HELPER_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "agent/helper/helper_client.h"
#include "agent/helper/helper_options.h"
#include "vmm/base/fd.h"

namespace drover {

// The agent's helper process and its client. The helper ends with this object, or with the agent,
// however that ends; the workers do not. Thread-compatible; the client is thread-safe.
class HelperProcess {
 public:
  // Starts `program` (drover-helper) and waits until it answers. For the agent's first thread,
  // before there are others and while it is privileged: the helper ends with the thread that made
  // it. `options.lock_fd` is the agent's own descriptor here, borrowed.
  static absl::StatusOr<std::unique_ptr<HelperProcess>> Spawn(const std::string& program,
                                                              const HelperOptions& options);
  ~HelperProcess();

  HelperClient& client() { return *client_; }
  pid_t pid() const { return pid_; }
  // Readable when the helper has ended.
  int pidfd() const { return pidfd_.get(); }

 private:
  HelperProcess(pid_t pid, Fd pidfd, std::unique_ptr<HelperClient> client)
      : pid_(pid), pidfd_(std::move(pidfd)), client_(std::move(client)) {}

  const pid_t pid_;
  const Fd pidfd_;
  std::unique_ptr<HelperClient> client_;
};

}  // namespace drover

#endif  // DROVER_AGENT_HELPER_HELPER_PROCESS_H_
