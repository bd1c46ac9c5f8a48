#include "agent/service/active_calls.h"

#include <utility>

#include "absl/strings/match.h"

namespace drover {
namespace {

namespace experimental = grpc::experimental;

// Lives as long as its call: until the status has gone out.
class Interceptor final : public experimental::Interceptor {
 public:
  explicit Interceptor(std::shared_ptr<ActiveCalls> calls) : calls_(std::move(calls)) {
    calls_->Begin();
  }
  ~Interceptor() override { calls_->End(); }
  void Intercept(experimental::InterceptorBatchMethods* methods) override { methods->Proceed(); }

 private:
  const std::shared_ptr<ActiveCalls> calls_;
};

class Factory final : public experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(std::shared_ptr<ActiveCalls> calls) : calls_(std::move(calls)) {}
  experimental::Interceptor* CreateServerInterceptor(experimental::ServerRpcInfo* info) override {
    if (!absl::StartsWith(info->method(), "/drover.v1.")) return nullptr;
    return new Interceptor(calls_);
  }

 private:
  const std::shared_ptr<ActiveCalls> calls_;
};

}  // namespace

void ActiveCalls::Begin() {
  MutexLock lock(&mutex_);
  ++count_;
}

void ActiveCalls::End() {
  MutexLock lock(&mutex_);
  --count_;
  changed_.SignalAll();
}

bool ActiveCalls::AwaitNone(std::chrono::nanoseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  MutexLock lock(&mutex_);
  while (count_ > 0 && std::chrono::steady_clock::now() < deadline)
    (void)changed_.WaitUntil(&mutex_, deadline);
  return count_ == 0;
}

std::unique_ptr<experimental::ServerInterceptorFactoryInterface> CountCalls(
    std::shared_ptr<ActiveCalls> calls) {
  return std::make_unique<Factory>(std::move(calls));
}

}  // namespace drover
