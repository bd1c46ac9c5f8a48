#ifndef DROVER_AGENT_HELPER_HELPER_CLIENT_H_
#define DROVER_AGENT_HELPER_HELPER_CLIENT_H_

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "agent/helper/helper.h"
#include "proto/worker/v1/helper.pb.h"
#include "vmm/base/mutex.h"
#include "vmm/base/unix_channel.h"

namespace drover {

// The helper behind its channel. Thread-safe: one call at a time, under a lock that is held while
// the helper works. After a time-out or the channel's end every call fails UNAVAILABLE
// (HELPER_GONE): answers could no longer be told apart from late ones.
class HelperClient : public Helper {
 public:
  static constexpr std::chrono::seconds kDefaultLimit{30};

  explicit HelperClient(UnixChannel channel, std::chrono::milliseconds limit = kDefaultLimit)
      : limit_(limit), channel_(std::move(channel)) {}

  // Waits until the helper answers requests; its error when it cannot start.
  absl::Status AwaitReady() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Status CheckFile(const std::string& path, const std::string& field) override;
  absl::StatusOr<LaunchedWorker> Launch(const WorkerLaunchOptions& options) override;
  absl::StatusOr<LaunchedWorker> Adopt(const std::string& instance_id) override;
  absl::Status Kill(const std::string& instance_id) override;
  absl::StatusOr<GoneWorker> Examine(const std::string& instance_id) override;
  absl::StatusOr<GoneWorker> Reap(const std::string& instance_id) override;
  absl::StatusOr<HelperProbe> Probe() override;
  absl::StatusOr<std::vector<std::string>> ListWorkers() override;

 private:
  struct Reply {
    worker::v1::HelperResponse response;
    std::vector<Fd> fds;
  };

  // The answer to `request` if its status is OK.
  absl::StatusOr<Reply> Call(worker::v1::HelperRequest request) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<Reply> Exchange(const worker::v1::HelperRequest& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Reply> Await(uint64_t sequence) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::chrono::milliseconds limit_;
  Mutex mutex_;
  UnixChannel channel_ ABSL_GUARDED_BY(mutex_);
  uint64_t sequence_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace drover

#endif  // DROVER_AGENT_HELPER_HELPER_CLIENT_H_
