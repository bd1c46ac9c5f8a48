#include "agent/helper/helper_server.h"

#include <sys/epoll.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/helper/identity_proto.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"
#include "vmm/base/status_proto.h"

namespace drover {

using worker::v1::HelperRequest;
using worker::v1::HelperResponse;

absl::Status HelperServer::Start() {
  RETURN_IF_ERROR(channel_.SetNonBlocking());
  RETURN_IF_ERROR(loop_->Watch(channel_.fd(), EPOLLIN, [this](uint32_t) { OnReadable(); }));
  Answer ready;
  *ready.response.mutable_status() = StatusToProto(absl::OkStatus());
  return Send(ready);
}

void HelperServer::OnReadable() {
  absl::StatusOr<ChannelMessage> message = channel_.Receive(std::chrono::milliseconds(0));
  if (absl::IsDeadlineExceeded(message.status())) return;
  HelperRequest request;
  Answer answer;
  if (message.ok() && request.ParseFromString(message->bytes)) {
    answer = Handle(request);
  } else if (message.ok() || absl::IsInvalidArgument(message.status())) {
    *answer.response.mutable_status() =
        StatusToProto(absl::InvalidArgumentError("the helper cannot read this request"));
  } else {
    return loop_->Stop();  // the agent is gone
  }
  if (const absl::Status sent = Send(answer); !sent.ok()) {
    Log(LogLevel::kWarning, "the agent does not take an answer", {{"error", sent.ToString()}});
    loop_->Stop();
  }
}

HelperServer::Answer HelperServer::Handle(const HelperRequest& request) {
  Answer answer;
  const absl::Status status = Call(request, &answer);
  answer.response.set_sequence(request.sequence());
  *answer.response.mutable_status() = StatusToProto(status);
  return answer;
}

absl::Status HelperServer::Call(const HelperRequest& request, Answer* answer) {
  switch (request.call_case()) {
    case HelperRequest::kCheckFile:
      return workers_->CheckFile(request.check_file().path(), request.check_file().field());
    case HelperRequest::kLaunch:
      return Launch(request.launch(), answer);
    case HelperRequest::kAdopt:
      return Adopt(request.adopt().instance_id(), answer);
    case HelperRequest::kKill:
      return workers_->Kill(request.kill().instance_id());
    case HelperRequest::kReap:
      return AnswerGone(workers_->Reap(request.reap().instance_id()), answer);
    case HelperRequest::kExamine:
      return AnswerGone(workers_->Examine(request.examine().instance_id()), answer);
    case HelperRequest::kProbe:
      return Probe(answer);
    case HelperRequest::kListWorkers:
      for (const std::string& id : workers_->List())
        answer->response.mutable_list_workers()->add_instance_ids(id);
      return absl::OkStatus();
    case HelperRequest::CALL_NOT_SET:
      break;
  }
  return absl::UnimplementedError("the helper does not know this request");
}

absl::Status HelperServer::Launch(const worker::v1::LaunchRequest& request, Answer* answer) {
  ASSIGN_OR_RETURN(LaunchedWorker launched, workers_->Launch({
                                                .instance_id = request.instance_id(),
                                                .kernel_path = request.kernel_path(),
                                                .initrd_path = request.initrd_path(),
                                                .vcpus = request.vcpus(),
                                                .memory_bytes = request.memory_bytes(),
                                            }));
  *answer->response.mutable_launch()->mutable_identity() = IdentityToProto(launched.identity);
  answer->fd = std::move(launched.pidfd);
  return absl::OkStatus();
}

absl::Status HelperServer::Adopt(const std::string& instance_id, Answer* answer) {
  absl::StatusOr<LaunchedWorker> adopted = workers_->Adopt(instance_id);
  worker::v1::AdoptResponse* const body = answer->response.mutable_adopt();
  if (ReasonOf(adopted.status()) == "WORKER_GONE")
    body->set_last_words(workers_->LastWords(instance_id).value_or(""));
  if (!adopted.ok()) return adopted.status();
  *body->mutable_identity() = IdentityToProto(adopted->identity);
  answer->fd = std::move(adopted->pidfd);
  return absl::OkStatus();
}

absl::Status HelperServer::AnswerGone(const absl::StatusOr<GoneWorker>& gone, Answer* answer) {
  if (!gone.ok()) return gone.status();
  worker::v1::AdoptResponse* const body = answer->response.mutable_adopt();
  body->set_last_words(gone->last_words);
  if (!gone->end.has_value()) return absl::OkStatus();
  body->mutable_end()->set_signal(static_cast<uint32_t>(gone->end->signal));
  body->mutable_end()->set_status(static_cast<uint32_t>(gone->end->status));
  return absl::OkStatus();
}

absl::Status HelperServer::Probe(Answer* answer) {
  const HelperProbe probe = prober_();
  worker::v1::ProbeResponse* const body = answer->response.mutable_probe();
  body->set_kvm_unusable(probe.kvm_unusable);
  for (const auto& [name, value] : probe.capabilities)
    (*body->mutable_capabilities())[name] = value;
  body->set_cgroup_version(probe.cgroup_version);
  for (const std::string& warning : probe.warnings) body->add_warnings(warning);
  for (const std::string& path : probe.image_directories) body->add_image_directories(path);
  return absl::OkStatus();
}

absl::Status HelperServer::Send(const Answer& answer) {
  std::vector<int> fds;
  if (answer.fd.valid()) fds.push_back(answer.fd.get());
  const std::string bytes = answer.response.SerializeAsString();
  if (bytes.size() <= UnixChannel::kMaxMessageBytes) return channel_.Send(bytes, fds);
  HelperResponse failure;
  failure.set_sequence(answer.response.sequence());
  *failure.mutable_status() = StatusToProto(absl::ResourceExhaustedError(
      absl::StrCat("the helper's answer of ", bytes.size(), " bytes is too long")));
  return channel_.Send(failure.SerializeAsString());
}

}  // namespace drover
