#include "agent/service/grpc_server.h"

#include <grpcpp/generic/generic_stub.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tuple>

#include "agent/service/rpc_error.h"
#include "agent/service/service_harness.h"
#include "proto/drover/v1/host.grpc.pb.h"
#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "vmm/base/mutex.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using grpc::health::v1::HealthCheckResponse;
using ::testing::Contains;
using ::testing::HasSubstr;

absl::StatusOr<int> Health(const std::shared_ptr<grpc::Channel>& channel,
                           const std::string& service) {
  grpc::ClientContext context;
  SetTestDeadline(&context);
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  HealthCheckResponse response;
  const grpc::Status status =
      grpc::health::v1::Health::NewStub(channel)->Check(&context, request, &response);
  if (!status.ok())
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  return response.status();
}

TEST(GrpcServerTest, ReportsHealthOnlyOnceItServes) {
  ServiceHarness harness;
  const auto channel = harness.NewChannel();
  for (const char* name : {"", "drover.v1.VmService", "drover.v1.HostService"})
    EXPECT_THAT(Health(channel, name), IsOkAndHolds(HealthCheckResponse::NOT_SERVING)) << name;
  harness.Open();
  for (const char* name : {"", "drover.v1.VmService", "drover.v1.HostService"})
    EXPECT_THAT(Health(channel, name), IsOkAndHolds(HealthCheckResponse::SERVING)) << name;
  EXPECT_THAT(Health(channel, "nobody"), StatusIs(absl::StatusCode::kNotFound));
  harness.server().SetServing(false);
  EXPECT_THAT(Health(channel, ""), IsOkAndHolds(HealthCheckResponse::NOT_SERVING));
}

TEST(GrpcServerTest, GivesItsSocketTheModeOfAGroup) {
  ServiceHarness harness;
  struct stat found;
  ASSERT_EQ(stat(harness.socket_path().c_str(), &found), 0);
  EXPECT_TRUE(S_ISSOCK(found.st_mode));
  EXPECT_EQ(found.st_mode & 0777, 0660u);
}

TEST(GrpcServerTest, RefusesASocketThatIsServed) {
  ServiceHarness harness;
  EXPECT_THAT(GrpcServer::Start({.unix_path = harness.socket_path()}, {}, nullptr),
              StatusIs(absl::StatusCode::kAlreadyExists));
  harness.Open();
  EXPECT_THAT(Health(harness.NewChannel(), ""), IsOkAndHolds(HealthCheckResponse::SERVING));
}

TEST(GrpcServerTest, RefusesTcpBeyondTheHost) {
  EXPECT_THAT(GrpcServer::Start({.insecure_tcp_address = "0.0.0.0:0"}, {}, nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("loopback")));
  EXPECT_THAT(GrpcServer::Start({}, {}, nullptr), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(GrpcServerTest, ServesLoopbackTcpAndRefusesAPortInUse) {
  ASSERT_OK_AND_ASSIGN(const auto server,
                       GrpcServer::Start({.insecure_tcp_address = "127.0.0.1:0"}, {}, nullptr));
  const std::string address = "127.0.0.1:" + std::to_string(server->tcp_port());
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  EXPECT_THAT(Health(channel, ""), IsOkAndHolds(HealthCheckResponse::NOT_SERVING));
  EXPECT_THAT(GrpcServer::Start({.insecure_tcp_address = address}, {}, nullptr),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address)));
}

// One round of grpc.reflection.v1alpha, whose messages are few enough to write by hand: the
// answer's bytes to `request`.
std::string Reflect(const std::shared_ptr<grpc::Channel>& channel, const std::string& request) {
  grpc::ClientContext context;
  SetTestDeadline(&context);
  grpc::CompletionQueue queue;
  grpc::GenericStub stub(channel);
  auto call = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  const auto step = [&] {
    void* tag;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  call->StartCall(nullptr);
  EXPECT_TRUE(step());
  const grpc::Slice slice(request);
  call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
  EXPECT_TRUE(step());
  grpc::ByteBuffer answer;
  call->Read(&answer, nullptr);
  EXPECT_TRUE(step());
  context.TryCancel();
  grpc::Status status;
  call->Finish(&status, nullptr);
  step();
  grpc::Slice bytes;
  EXPECT_TRUE(answer.DumpToSingleSlice(&bytes).ok());
  return std::string(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
}

TEST(GrpcServerTest, DescribesItsServicesAndTheErrorDetails) {
  ServiceHarness harness;
  const auto channel = harness.NewChannel();
  const std::string services = Reflect(channel, std::string("\x3a\x00", 2));  // list_services
  for (const char* name : {"drover.v1.VmService", "drover.v1.HostService", "grpc.health.v1.Health"})
    EXPECT_THAT(services, HasSubstr(name));
  // file_containing_symbol; an answer with descriptors has field 4, an error field 7.
  for (const std::string name :
       {"drover.v1.VmService", "grpc.health.v1.Health", "google.rpc.ErrorInfo",
        "google.rpc.BadRequest", "google.rpc.Status", "google.protobuf.Duration"}) {
    const std::string answer =
        Reflect(channel, "\x22" + std::string(1, static_cast<char>(name.size())) + name);
    const std::string package = name.substr(0, name.rfind('.'));
    EXPECT_THAT(answer,
                HasSubstr("\x12" + std::string(1, static_cast<char>(package.size())) + package))
        << name;
  }
}

// Opens a reflection stream and says nothing on it.
class IdleReflection {
 public:
  explicit IdleReflection(const std::shared_ptr<grpc::Channel>& channel) : stub_(channel) {
    SetTestDeadline(&context_);
    call_ = stub_.PrepareCall(
        &context_, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue_);
    call_->StartCall(nullptr);
    call_->ReadInitialMetadata(nullptr);
  }
  ~IdleReflection() {
    context_.TryCancel();
    call_->Finish(&status_, nullptr);
    queue_.Shutdown();
    void* tag;
    bool ok;
    while (queue_.Next(&tag, &ok)) {
    }
  }

 private:
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  grpc::GenericStub stub_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  grpc::Status status_;
};

TEST(GrpcServerTest, IdleReflectionStreamsDoNotTakeItsThreads) {
  ServiceHarness harness;
  harness.Open();
  std::vector<std::unique_ptr<IdleReflection>> idle;
  for (int connection = 0; connection < 10; ++connection) {
    grpc::ChannelArguments alone;  // a connection of its own
    alone.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto channel = grpc::CreateCustomChannel("unix:" + harness.socket_path(),
                                                   grpc::InsecureChannelCredentials(), alone);
    for (int i = 0; i < 120; ++i) idle.push_back(std::make_unique<IdleReflection>(channel));
  }
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    SetTestDeadline(&context);
    v1::Host host;
    const auto stub = v1::HostService::NewStub(harness.NewChannel());
    EXPECT_EQ(stub->GetHost(&context, {}, &host).error_code(), grpc::StatusCode::OK);
    usleep(50'000);
  }
}

// Remembers what it was told.
class Witness : public RpcObserver {
 public:
  void OnRpcHandled(absl::string_view service, absl::string_view method, grpc::StatusCode code,
                    absl::string_view reason) override {
    MutexLock lock(&mutex_);
    calls_.emplace_back(service, method, code, reason);
  }
  using Seen = std::tuple<std::string, std::string, int, std::string>;
  std::vector<Seen> calls() {
    MutexLock lock(&mutex_);
    return calls_;
  }

 private:
  Mutex mutex_;
  std::vector<Seen> calls_ ABSL_GUARDED_BY(mutex_);
};

TEST(GrpcServerTest, TellsTheObserverOfEachCall) {
  Witness witness;
  ServiceHarness harness(ConsoleStreamOptions(), &witness);
  harness.Open();
  auto hosts = v1::HostService::NewStub(harness.NewChannel());
  auto vms = v1::VmService::NewStub(harness.NewChannel());
  {
    grpc::ClientContext context;
    SetTestDeadline(&context);
    v1::Host host;
    ASSERT_TRUE(hosts->GetHost(&context, {}, &host).ok());
  }
  {
    grpc::ClientContext context;
    SetTestDeadline(&context);
    v1::GetVmRequest request;
    request.set_vm_id("nobody");
    v1::Vm vm;
    ASSERT_FALSE(vms->GetVm(&context, request, &vm).ok());
  }
  {
    grpc::ClientContext context;
    SetTestDeadline(&context);
    auto stream = vms->StreamConsole(&context);
    stream->WritesDone();
    v1::StreamConsoleResponse response;
    while (stream->Read(&response)) {
    }
    ASSERT_FALSE(stream->Finish().ok());
  }
  const auto calls = witness.calls();
  EXPECT_THAT(calls, Contains(Witness::Seen("drover.v1.HostService", "GetHost", 0, "")));
  EXPECT_THAT(calls, Contains(Witness::Seen("drover.v1.VmService", "GetVm", 5, "VM_NOT_FOUND")));
  EXPECT_THAT(calls,
              Contains(Witness::Seen("drover.v1.VmService", "StreamConsole", 3, "INVALID_FIELDS")));
}

std::shared_ptr<grpc::Channel> OwnConnection(const std::string& address) {
  grpc::ChannelArguments alone;
  alone.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), alone);
}

TEST(GrpcServerTest, RefusesConnectionsBeyondItsLimitAndServesTheOthers) {
  ASSERT_OK_AND_ASSIGN(const auto server, GrpcServer::Start({.insecure_tcp_address = "127.0.0.1:0",
                                                             .max_connections = 3},
                                                            {}, nullptr));
  server->SetServing(true);
  const std::string address = "127.0.0.1:" + std::to_string(server->tcp_port());
  std::vector<std::shared_ptr<grpc::Channel>> served;
  for (int i = 0; i < 3; ++i) {
    served.push_back(OwnConnection(address));
    EXPECT_THAT(Health(served.back(), ""), IsOkAndHolds(HealthCheckResponse::SERVING));
  }
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  HealthCheckResponse response;
  const grpc::Status refused =
      grpc::health::v1::Health::NewStub(OwnConnection(address))->Check(&context, {}, &response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE) << refused.error_message();
  for (const auto& channel : served)
    EXPECT_THAT(Health(channel, ""), IsOkAndHolds(HealthCheckResponse::SERVING));
}

TEST(GrpcServerTest, DoesNotWaitForClientsThatOnlyStayConnected) {
  ServiceHarness harness;
  harness.Open();
  const auto channel = harness.NewChannel();
  EXPECT_THAT(Health(channel, ""), IsOkAndHolds(HealthCheckResponse::SERVING));
  const IdleReflection idle(channel);
  const auto begin = std::chrono::steady_clock::now();
  harness.server().Shutdown(std::chrono::minutes(10));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::minutes(1));
}

TEST(GrpcServerTest, EndsCallsThatOutlastItsShutdown) {
  ServiceHarness harness;
  harness.Open();
  harness.AddVm("a");
  auto vms = v1::VmService::NewStub(harness.NewChannel());
  grpc::ClientContext context;
  SetTestDeadline(&context);
  auto stream = vms->StreamConsole(&context);
  v1::StreamConsoleRequest request;
  request.set_vm_id("a");
  ASSERT_TRUE(stream->Write(request));
  const Fd guest = harness.backend().TakeGuestConsole();
  harness.server().Shutdown(std::chrono::milliseconds(100));
  v1::StreamConsoleResponse response;
  while (stream->Read(&response)) {
  }
  EXPECT_FALSE(stream->Finish().ok());
}

}  // namespace
}  // namespace drover
