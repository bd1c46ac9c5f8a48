#ifndef DROVER_AGENT_HELPER_HELPER_SERVER_H_
#define DROVER_AGENT_HELPER_HELPER_SERVER_H_

#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "agent/helper/workers.h"
#include "proto/worker/v1/helper.pb.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/unix_channel.h"

namespace drover {

// Answers the agent's requests, one after the other, and stops the loop when the agent is gone.
// Loop-bound.
class HelperServer {
 public:
  using Prober = std::function<HelperProbe()>;

  HelperServer(EventLoop* loop, UnixChannel channel, Workers* workers, Prober prober)
      : loop_(loop), channel_(std::move(channel)), workers_(workers), prober_(std::move(prober)) {}
  ~HelperServer() { loop_->Unwatch(channel_.fd()); }

  // Tells the agent that requests are answered from now on, and begins.
  absl::Status Start();

 private:
  struct Answer {
    worker::v1::HelperResponse response;
    Fd fd;
  };

  void OnReadable();
  Answer Handle(const worker::v1::HelperRequest& request);
  absl::Status Call(const worker::v1::HelperRequest& request, Answer* answer);
  absl::Status Launch(const worker::v1::LaunchRequest& request, Answer* answer);
  absl::Status Adopt(const std::string& instance_id, Answer* answer);
  static absl::Status AnswerGone(const absl::StatusOr<GoneWorker>& gone, Answer* answer);
  absl::Status Probe(Answer* answer);
  absl::Status Send(const Answer& answer);

  EventLoop* const loop_;
  UnixChannel channel_;
  Workers* const workers_;
  const Prober prober_;
};

}  // namespace drover

#endif  // DROVER_AGENT_HELPER_HELPER_SERVER_H_
