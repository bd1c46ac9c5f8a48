#include "agent/service/rpc_observer.h"

#include <string>

#include "absl/strings/strip.h"
#include "agent/service/rpc_error.h"

namespace drover {
namespace {

namespace experimental = grpc::experimental;

// Watches one call.
class Interceptor final : public experimental::Interceptor {
 public:
  Interceptor(RpcObserver* observer, absl::string_view method)
      : observer_(*observer), method_(method) {
    absl::ConsumePrefix(&method_, "/");
  }

  void Intercept(experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(
            experimental::InterceptionHookPoints::PRE_SEND_STATUS)) {
      Report(methods->GetSendStatus());
    }
    methods->Proceed();
  }

 private:
  void Report(const grpc::Status& status) {
    const size_t slash = method_.find('/');
    if (slash == absl::string_view::npos) return;
    const std::string reason = status.ok() ? "" : DecodeRpcError(status).reason;
    observer_.OnRpcHandled(method_.substr(0, slash), method_.substr(slash + 1), status.error_code(),
                           reason);
  }

  RpcObserver& observer_;
  absl::string_view method_;  // gRPC's, as long as the call
};

class Factory final : public experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(RpcObserver* observer) : observer_(observer) {}
  experimental::Interceptor* CreateServerInterceptor(experimental::ServerRpcInfo* info) override {
    return new Interceptor(observer_, info->method());
  }

 private:
  RpcObserver* const observer_;
};

}  // namespace

std::unique_ptr<experimental::ServerInterceptorFactoryInterface> ObserveRpcs(
    RpcObserver* observer) {
  return std::make_unique<Factory>(observer);
}

}  // namespace drover
