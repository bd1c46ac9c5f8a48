#include "agent/service/grpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include <mutex>

#include "absl/strings/str_cat.h"
#include "agent/service/listen_address.h"
#include "agent/service/reflection_limit.h"
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
constexpr int kMaxReflectionStreams = 64;      // of those threads
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

void SetInterceptors(RpcObserver* observer, grpc::ServerBuilder* builder) {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> factories;
  factories.push_back(LimitReflection(kMaxReflectionStreams));
  if (observer != nullptr) factories.push_back(ObserveRpcs(observer));
  builder->experimental().SetInterceptorCreators(std::move(factories));
}

absl::Status CheckAddresses(const GrpcServerOptions& options) {
  if (options.unix_path.empty() && options.insecure_tcp_address.empty())
    return absl::InvalidArgumentError("there is no address to listen on");
  return options.insecure_tcp_address.empty() ? absl::OkStatus()
                                              : CheckLoopbackAddress(options.insecure_tcp_address);
}

absl::Status CannotListen(const std::string& address, absl::string_view why) {
  return absl::UnavailableError(absl::StrCat(
      "cannot listen on ", address, why,
      ": check that the agent's user may write to the directory and that the port is free"));
}

// Null without a path.
absl::StatusOr<std::unique_ptr<UnixAcceptor>> ListenUnixSocket(const std::string& path) {
  if (path.empty()) return std::unique_ptr<UnixAcceptor>();
  RETURN_IF_ERROR(ClaimUnixSocketPath(path));
  auto acceptor = UnixAcceptor::Listen(path);
  if (acceptor.ok()) return acceptor;
  return CannotListen(path, absl::StrCat(" (", acceptor.status().message(), ")"));
}

using Connections = grpc::experimental::ExternalConnectionAcceptor;

void HandOn(Connections* connections, Fd connection) {
  Connections::NewConnectionParameters parameters;
  parameters.fd = connection.Release();
  connections->HandleNewConnection(&parameters);
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    const GrpcServerOptions& options, const std::vector<grpc::Service*>& services,
    RpcObserver* observer) {
  RETURN_IF_ERROR(CheckAddresses(options));
  InitializeGrpc();
  ASSIGN_OR_RETURN(std::unique_ptr<UnixAcceptor> acceptor, ListenUnixSocket(options.unix_path));
  grpc::ServerBuilder builder;
  auto tcp_port = std::make_unique<int>(0);
  std::shared_ptr<Connections> connections = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      grpc::InsecureServerCredentials());
  if (!options.insecure_tcp_address.empty())
    builder.AddListeningPort(options.insecure_tcp_address, grpc::InsecureServerCredentials(),
                             tcp_port.get());
  for (grpc::Service* service : services) builder.RegisterService(service);
  SetLimits(&builder);
  SetInterceptors(observer, &builder);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return CannotListen(options.insecure_tcp_address, "");
  auto result = std::unique_ptr<GrpcServer>(
      new GrpcServer(std::move(server), std::move(tcp_port), std::move(acceptor)));
  result->SetServing(false);
  if (result->acceptor_ != nullptr)
    result->acceptor_->Start(
        [connections](Fd connection) { HandOn(connections.get(), std::move(connection)); });
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
  if (acceptor_ != nullptr) acceptor_->Stop();
  server_->Shutdown(std::chrono::system_clock::now() + bound);
  server_->Wait();
}

}  // namespace drover
