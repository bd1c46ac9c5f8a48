#include "agent/service/reflection_limit.h"

#include <grpcpp/server_context.h>

#include <atomic>

#include "absl/strings/match.h"

namespace drover {
namespace {

namespace experimental = grpc::experimental;

// One call of grpc.reflection.
class Interceptor final : public experimental::Interceptor {
 public:
  Interceptor(experimental::ServerRpcInfo* info, std::shared_ptr<std::atomic<int>> active, int most)
      : info_(*info), active_(std::move(active)), excess_(active_->fetch_add(1) >= most) {}
  ~Interceptor() override { --*active_; }

  void Intercept(experimental::InterceptorBatchMethods* methods) override {
    if (excess_ && methods->QueryInterceptionHookPoint(
                       experimental::InterceptionHookPoints::POST_RECV_INITIAL_METADATA))
      info_.server_context()->TryCancel();
    methods->Proceed();
  }

 private:
  experimental::ServerRpcInfo& info_;  // outlives the interceptor
  const std::shared_ptr<std::atomic<int>> active_;
  const bool excess_;
};

class Factory final : public experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(int most) : most_(most) {}
  experimental::Interceptor* CreateServerInterceptor(experimental::ServerRpcInfo* info) override {
    if (!absl::StartsWith(info->method(), "/grpc.reflection.")) return nullptr;
    return new Interceptor(info, active_, most_);
  }

 private:
  const int most_;
  // Shared with the calls, which may outlive the server's own parts.
  const std::shared_ptr<std::atomic<int>> active_ = std::make_shared<std::atomic<int>>(0);
};

}  // namespace

std::unique_ptr<experimental::ServerInterceptorFactoryInterface> LimitReflection(int most) {
  return std::make_unique<Factory>(most);
}

}  // namespace drover
