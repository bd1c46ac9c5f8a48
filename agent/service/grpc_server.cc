#include "agent/service/grpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <sys/stat.h>

#include <mutex>

#include "absl/strings/str_cat.h"
#include "agent/service/listen_address.h"
#include "proto/google/rpc/error_details.pb.h"
#include "proto/google/rpc/status.pb.h"
#include "proto/grpc/health/v1/health.pb.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr int kMaxReceiveBytes = 1 << 20;
constexpr int kMaxConcurrentStreams = 128;  // a connection
constexpr size_t kMaxMemoryBytes = 256 << 20;
constexpr int kMaxThreads = 1024;              // a call in progress occupies one
constexpr int kStreamWindowBytes = 256 << 10;  // more than the largest console input
constexpr int kMinPingIntervalMs = 10'000;
constexpr int kKeepaliveMs = 120'000;

// Links the descriptors that reflection hands to clients: the health service, whose C++ server has
// none, and the error details.
void RegisterDescriptors() {
  grpc::health::v1::HealthCheckRequest::descriptor();
  google::rpc::Status::descriptor();
  google::rpc::ErrorInfo::descriptor();
}

// Settings of the process that gRPC reads when it builds a server.
void InitializeGrpc() {
  static std::once_flag once;
  std::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    RegisterDescriptors();
  });
}

void SetLimits(grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(kMaxReceiveBytes);
  builder->SetResourceQuota(
      grpc::ResourceQuota("drover").Resize(kMaxMemoryBytes).SetMaxThreads(kMaxThreads));
  builder->SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxConcurrentStreams);
  // Otherwise two agents would share one port without noticing.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // gRPC 1.51's bandwidth probe can stall a stream that is busy both ways for 10 s, on either side
  // that has it; without it the window must hold a whole console input.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kStreamWindowBytes);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  // Schedulers ping idle connections; gRPC's own defaults would disconnect them.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                              kMinPingIntervalMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
}

void SetObserver(RpcObserver* observer, grpc::ServerBuilder* builder) {
  if (observer == nullptr) return;
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> factories;
  factories.push_back(ObserveRpcs(observer));
  builder->experimental().SetInterceptorCreators(std::move(factories));
}

absl::Status AddListeners(const GrpcServerOptions& options, int* tcp_port,
                          grpc::ServerBuilder* builder) {
  if (options.unix_path.empty() && options.insecure_tcp_address.empty())
    return absl::InvalidArgumentError("there is no address to listen on");
  if (!options.unix_path.empty()) {
    RETURN_IF_ERROR(ClaimUnixSocketPath(options.unix_path));
    builder->AddListeningPort("unix:" + options.unix_path, grpc::InsecureServerCredentials());
  }
  if (!options.insecure_tcp_address.empty()) {
    RETURN_IF_ERROR(CheckLoopbackAddress(options.insecure_tcp_address));
    builder->AddListeningPort(options.insecure_tcp_address, grpc::InsecureServerCredentials(),
                              tcp_port);
  }
  return absl::OkStatus();
}

// bind(2) gives the socket its mode, so that it never has a wider one.
std::unique_ptr<grpc::Server> BuildWithSocketMode(grpc::ServerBuilder* builder) {
  const mode_t before = umask(0117);
  std::unique_ptr<grpc::Server> server = builder->BuildAndStart();
  umask(before);
  return server;
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    const GrpcServerOptions& options, const std::vector<grpc::Service*>& services,
    RpcObserver* observer) {
  InitializeGrpc();
  grpc::ServerBuilder builder;
  auto tcp_port = std::make_unique<int>(0);
  RETURN_IF_ERROR(AddListeners(options, tcp_port.get(), &builder));
  for (grpc::Service* service : services) builder.RegisterService(service);
  SetLimits(&builder);
  SetObserver(observer, &builder);
  std::unique_ptr<grpc::Server> server = BuildWithSocketMode(&builder);
  if (server == nullptr)
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on ", options.unix_path,
        options.unix_path.empty() || options.insecure_tcp_address.empty() ? "" : " and ",
        options.insecure_tcp_address,
        ": check that the agent's user may write to the directory and that the port is free"));
  auto result = std::unique_ptr<GrpcServer>(new GrpcServer(std::move(server), std::move(tcp_port)));
  result->SetServing(false);
  return result;
}

GrpcServer::~GrpcServer() { Shutdown(std::chrono::milliseconds(0)); }

void GrpcServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
  for (const char* name : {"", "drover.v1.VmService", "drover.v1.HostService"})
    health->SetServingStatus(name, serving);
}

void GrpcServer::Shutdown(std::chrono::milliseconds bound) {
  SetServing(false);
  server_->Shutdown(std::chrono::system_clock::now() + bound);
  server_->Wait();
}

}  // namespace drover
