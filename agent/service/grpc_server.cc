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
constexpr int kMaxIdleMs = 1'800'000;  // a connection without calls; clients connect again
constexpr int kHandshakeMs = 20'000;   // from connect(2) to the client's SETTINGS
constexpr std::chrono::milliseconds kLastBytes{200};  // of answers, at the end

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
  // gRPC 1.51's bandwidth probe can stall a stream that is busy both ways for 10 s, on either side
  // that has it; without it the window must hold a whole console input.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kStreamWindowBytes);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  // Schedulers ping idle connections; gRPC's own defaults would disconnect them.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                              kMinPingIntervalMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kMaxIdleMs);
  builder->AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
}

void SetInterceptors(RpcObserver* observer, std::shared_ptr<ActiveCalls> calls,
                     grpc::ServerBuilder* builder) {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> factories;
  factories.push_back(LimitReflection(kMaxReflectionStreams));
  factories.push_back(CountCalls(std::move(calls)));
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

absl::StatusOr<std::vector<std::unique_ptr<Acceptor>>> Listen(const GrpcServerOptions& options) {
  std::vector<std::unique_ptr<Acceptor>> acceptors;
  const auto add = [&](const std::string& address,
                       absl::StatusOr<std::unique_ptr<Acceptor>> acceptor) {
    if (!acceptor.ok())
      return CannotListen(address, absl::StrCat(" (", acceptor.status().message(), ")"));
    acceptors.push_back(*std::move(acceptor));
    return absl::OkStatus();
  };
  if (!options.unix_path.empty()) {
    RETURN_IF_ERROR(ClaimUnixSocketPath(options.unix_path));
    RETURN_IF_ERROR(add(options.unix_path, Acceptor::ListenUnix(options.unix_path)));
  }
  if (!options.insecure_tcp_address.empty())
    RETURN_IF_ERROR(
        add(options.insecure_tcp_address, Acceptor::ListenTcp(options.insecure_tcp_address)));
  return acceptors;
}

using Connections = grpc::experimental::ExternalConnectionAcceptor;

void HandOn(Connections* connections, Fd connection) {
  Connections::NewConnectionParameters parameters;
  parameters.fd = connection.Release();
  connections->HandleNewConnection(&parameters);
}

}  // namespace

// gRPC's health begins as SERVING: nobody is accepted before it has been set.
absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    const GrpcServerOptions& options, const std::vector<grpc::Service*>& services,
    RpcObserver* observer) {
  RETURN_IF_ERROR(CheckAddresses(options));
  InitializeGrpc();
  auto result = std::unique_ptr<GrpcServer>(new GrpcServer());
  ASSIGN_OR_RETURN(result->acceptors_, Listen(options));
  grpc::ServerBuilder builder;
  std::shared_ptr<Connections> connections = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      grpc::InsecureServerCredentials());
  for (grpc::Service* service : services) builder.RegisterService(service);
  SetLimits(&builder);
  SetInterceptors(observer, result->calls_, &builder);
  result->server_ = builder.BuildAndStart();
  if (result->server_ == nullptr) return absl::InternalError("gRPC cannot start a server");
  result->SetServing(false);
  const auto limit = std::make_shared<ConnectionLimit>(options.max_connections);
  for (const auto& acceptor : result->acceptors_)
    acceptor->Start(
        limit, [connections](Fd connection) { HandOn(connections.get(), std::move(connection)); });
  return result;
}

GrpcServer::~GrpcServer() {
  if (server_ != nullptr) Shutdown(std::chrono::milliseconds(0));
}

int GrpcServer::tcp_port() const {
  for (const auto& acceptor : acceptors_)
    if (acceptor->port() != 0) return acceptor->port();
  return 0;
}

void GrpcServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
  for (const char* name : {"", "drover.v1.VmService", "drover.v1.HostService"})
    health->SetServingStatus(name, serving);
}

void GrpcServer::Shutdown(std::chrono::milliseconds bound) {
  SetServing(false);
  for (const auto& acceptor : acceptors_) acceptor->Stop();
  (void)calls_->AwaitNone(bound);
  // gRPC's own graceful end waits for every client, also for those that do not read just now.
  server_->Shutdown(std::chrono::system_clock::now() + kLastBytes);
  server_->Wait();
}

}  // namespace drover
