#ifndef DROVER_AGENT_SERVICE_ACTIVE_CALLS_H_
#define DROVER_AGENT_SERVICE_ACTIVE_CALLS_H_

#include <grpcpp/support/server_interceptor.h>

#include <chrono>
#include <memory>

#include "vmm/base/mutex.h"

namespace drover {

// The calls of drover.v1 that are in progress; those of health and reflection, which may last for
// ever, are not counted. Thread-safe.
class ActiveCalls {
 public:
  void Begin();
  void End();
  // Waits until there is none; false when `limit` passes first.
  bool AwaitNone(std::chrono::nanoseconds limit);

 private:
  Mutex mutex_;
  CondVar changed_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Makes the interceptor that counts.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> CountCalls(
    std::shared_ptr<ActiveCalls> calls);

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_ACTIVE_CALLS_H_
