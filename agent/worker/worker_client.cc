#include "agent/worker/worker_client.h"

#include <sys/socket.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/worker/worker_connection.h"
#include "vmm/base/status.h"
#include "vmm/base/unix_channel.h"

namespace drover {
namespace {

using Deadline = std::chrono::steady_clock::time_point;

absl::Status Misbehaves(absl::string_view how) {
  return WithReason(absl::InternalError(absl::StrCat("the VM's worker misbehaves: ", how)),
                    "WORKER_MISBEHAVES");
}

absl::Status Mismatch(const std::string& how) {
  return WithReason(absl::FailedPreconditionError(how), "WORKER_MISMATCH");
}

absl::StatusOr<WorkerConnection::Answer> AwaitOk(WorkerConnection* connection, uint64_t sequence,
                                                 WorkerCall call, Deadline deadline) {
  ASSIGN_OR_RETURN(WorkerConnection::Answer answer, connection->Await(sequence, call, deadline));
  RETURN_IF_ERROR(answer.answer.status);
  return answer;
}

absl::StatusOr<WorkerConnection::Answer> Exchange(WorkerConnection* connection, WorkerCall call,
                                                  const MachineConfig& config,
                                                  WorkerClient::Limit limit) {
  const Deadline deadline = std::chrono::steady_clock::now() + limit;
  ASSIGN_OR_RETURN(const uint64_t sequence, connection->Send(call, config));
  return AwaitOk(connection, sequence, call, deadline);
}

absl::StatusOr<MachineReport> ReportIn(const WorkerConnection::Answer& answer) {
  if (!answer.answer.machine.has_value())
    return Misbehaves("an answer without the machine's state");
  return *answer.answer.machine;
}

absl::StatusOr<WorkerGreeting> CheckGreeting(const WorkerConnection::Answer& answer,
                                             const std::string& instance_id) {
  if (!answer.answer.greeting.has_value()) return Misbehaves("an answer to Hello without greeting");
  const WorkerGreeting& greeting = *answer.answer.greeting;
  if (greeting.instance_id != instance_id)
    return Mismatch(
        absl::StrCat("the worker of ", greeting.instance_id, " answers for ", instance_id));
  if (greeting.protocol < kMinWorkerProtocol || greeting.protocol > kMaxWorkerProtocol)
    return Mismatch(absl::StrCat("the worker speaks protocol ", greeting.protocol, ", this agent ",
                                 kMinWorkerProtocol, " to ", kMaxWorkerProtocol));
  return greeting;
}

bool IsUnixStream(int fd) {
  int domain = 0;
  int type = 0;
  socklen_t size = sizeof(int);
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX &&
         getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

}  // namespace

WorkerClient::WorkerClient(std::shared_ptr<WorkerConnection> connection)
    : connection_(std::move(connection)) {}

WorkerClient::~WorkerClient() { Close(); }

void WorkerClient::Close() { connection_->Close(absl::CancelledError("closed by the agent")); }

void WorkerClient::KeepAlive(Limit period, Limit limit) { connection_->KeepAlive(period, limit); }

bool WorkerClient::closed() const { return connection_->closed(); }

absl::StatusOr<std::unique_ptr<WorkerClient>> WorkerClient::Connect(WorkerLoop* loop,
                                                                    const std::string& path,
                                                                    Callbacks callbacks) {
  absl::StatusOr<UnixChannel> channel = UnixChannel::Connect(path);
  if (!channel.ok())
    return WithReason(
        absl::UnavailableError(absl::StrCat("the VM's worker: ", channel.status().message())),
        absl::IsUnavailable(channel.status()) ? "WORKER_UNRESPONSIVE" : "WORKER_GONE");
  RETURN_IF_ERROR(channel->SetNonBlocking());
  auto connection =
      std::make_shared<WorkerConnection>(loop, *std::move(channel), std::move(callbacks));
  connection->Open();
  return std::unique_ptr<WorkerClient>(new WorkerClient(std::move(connection)));
}

absl::StatusOr<WorkerGreeting> WorkerClient::Hello(const std::string& instance_id, Limit limit) {
  ASSIGN_OR_RETURN(const WorkerConnection::Answer answer,
                   Exchange(connection_.get(), WorkerCall::kHello, {}, limit));
  return CheckGreeting(answer, instance_id);
}

absl::StatusOr<WorkerGreeting> WorkerClient::BringUp(const std::string& instance_id,
                                                     const MachineConfig& config, Limit limit) {
  const Deadline deadline = std::chrono::steady_clock::now() + limit;
  constexpr WorkerCall kCalls[] = {WorkerCall::kHello, WorkerCall::kConfigure, WorkerCall::kStart};
  absl::StatusOr<uint64_t> sequences[3];
  absl::StatusOr<WorkerConnection::Answer> answers[3];
  for (int i = 0; i < 3; ++i) sequences[i] = connection_->Send(kCalls[i], config);
  for (int i = 2; i >= 0; --i)  // the last first: one wait instead of three
    answers[i] = sequences[i].ok()
                     ? AwaitOk(connection_.get(), *sequences[i], kCalls[i], deadline)
                     : absl::StatusOr<WorkerConnection::Answer>(sequences[i].status());
  for (const auto& answer : answers) RETURN_IF_ERROR(answer.status());
  ASSIGN_OR_RETURN(WorkerGreeting greeting, CheckGreeting(*answers[0], instance_id));
  ASSIGN_OR_RETURN(greeting.machine, ReportIn(*answers[2]));
  return greeting;
}

absl::StatusOr<MachineReport> WorkerClient::Call(WorkerCall call, Limit limit) {
  ASSIGN_OR_RETURN(const WorkerConnection::Answer answer,
                   Exchange(connection_.get(), call, {}, limit));
  return ReportIn(answer);
}

absl::StatusOr<MachineReport> WorkerClient::Configure(const MachineConfig& config, Limit limit) {
  ASSIGN_OR_RETURN(const WorkerConnection::Answer answer,
                   Exchange(connection_.get(), WorkerCall::kConfigure, config, limit));
  return ReportIn(answer);
}

absl::StatusOr<MachineReport> WorkerClient::Start(Limit limit) {
  return Call(WorkerCall::kStart, limit);
}

absl::StatusOr<MachineReport> WorkerClient::Pause(Limit limit) {
  return Call(WorkerCall::kPause, limit);
}

absl::StatusOr<MachineReport> WorkerClient::Resume(Limit limit) {
  return Call(WorkerCall::kResume, limit);
}

absl::StatusOr<MachineReport> WorkerClient::Reset(Limit limit) {
  return Call(WorkerCall::kReset, limit);
}

absl::StatusOr<MachineReport> WorkerClient::PowerButton(Limit limit) {
  return Call(WorkerCall::kPowerButton, limit);
}

absl::StatusOr<MachineReport> WorkerClient::Stop(Limit limit) {
  return Call(WorkerCall::kStop, limit);
}

absl::StatusOr<WorkerClient::Console> WorkerClient::AttachConsole(Limit limit) {
  ASSIGN_OR_RETURN(WorkerConnection::Answer answer,
                   Exchange(connection_.get(), WorkerCall::kAttachConsole, {}, limit));
  if (!answer.answer.lost_bytes.has_value() || answer.fds.size() != 1 ||
      !IsUnixStream(answer.fds[0].get()))
    return Misbehaves("an answer to AttachConsole without one stream socket");
  return Console{std::move(answer.fds[0]), *answer.answer.lost_bytes};
}

}  // namespace drover
