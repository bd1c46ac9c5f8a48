#include "agent/helper/helper_client.h"

#include "absl/strings/str_cat.h"
#include "agent/helper/identity_proto.h"
#include "vmm/base/status.h"
#include "vmm/base/status_proto.h"

namespace drover {
namespace {

using worker::v1::HelperRequest;
using worker::v1::HelperResponse;

absl::Status HelperGone(absl::string_view why) {
  return WithReason(absl::UnavailableError(absl::StrCat("drover-helper is gone (", why,
                                                        "): VMs run on; restart drover-agent")),
                    "HELPER_GONE");
}

absl::StatusOr<LaunchedWorker> WorkerOf(const worker::v1::WorkerIdentity& identity,
                                        std::vector<Fd>* fds) {
  if (fds->size() != 1)
    return absl::InternalError(
        absl::StrCat("the helper answered with ", fds->size(), " descriptors instead of a pidfd"));
  return LaunchedWorker{IdentityFromProto(identity), std::move(fds->front())};
}

GoneWorker GoneIn(const worker::v1::AdoptResponse& body) {
  GoneWorker gone{body.last_words(), std::nullopt};
  if (body.has_end())
    gone.end =
        ProcessEnd{static_cast<int>(body.end().signal()), static_cast<int>(body.end().status())};
  return gone;
}

}  // namespace

absl::Status HelperClient::AwaitReady() {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const Reply reply, Await(0));
  return StatusFromProto(reply.response.status());
}

absl::StatusOr<HelperClient::Reply> HelperClient::Call(HelperRequest request) {
  MutexLock lock(&mutex_);
  if (!channel_.valid()) return HelperGone("an earlier call failed");
  request.set_sequence(++sequence_);
  ASSIGN_OR_RETURN(Reply reply, Exchange(request));
  RETURN_IF_ERROR(StatusFromProto(reply.response.status()));
  return reply;
}

absl::StatusOr<HelperClient::Reply> HelperClient::Exchange(const HelperRequest& request) {
  const absl::Status sent = channel_.Send(request.SerializeAsString());
  if (absl::IsResourceExhausted(sent)) return sent;  // too long: this call's own fault
  if (!sent.ok()) {
    channel_.Close();
    return HelperGone(sent.message());
  }
  return Await(request.sequence());
}

absl::StatusOr<HelperClient::Reply> HelperClient::Await(uint64_t sequence) {
  absl::StatusOr<ChannelMessage> message = channel_.Receive(limit_);
  Reply reply;
  std::string why;
  if (!message.ok()) {
    why = std::string(message.status().message());
  } else if (!reply.response.ParseFromString(message->bytes) ||
             reply.response.sequence() != sequence) {
    why = "it does not answer the question";
  } else {
    reply.fds = std::move(message->fds);
    return reply;
  }
  channel_.Close();
  return HelperGone(why);
}

absl::Status HelperClient::CheckFile(const std::string& path, const std::string& field) {
  HelperRequest request;
  request.mutable_check_file()->set_path(path);
  request.mutable_check_file()->set_field(field);
  return Call(std::move(request)).status();
}

absl::StatusOr<LaunchedWorker> HelperClient::Launch(const WorkerLaunchOptions& options) {
  HelperRequest request;
  worker::v1::LaunchRequest* const launch = request.mutable_launch();
  launch->set_instance_id(options.instance_id);
  launch->set_kernel_path(options.kernel_path);
  launch->set_initrd_path(options.initrd_path);
  launch->set_vcpus(options.vcpus);
  launch->set_memory_bytes(options.memory_bytes);
  ASSIGN_OR_RETURN(Reply reply, Call(std::move(request)));
  return WorkerOf(reply.response.launch().identity(), &reply.fds);
}

absl::StatusOr<LaunchedWorker> HelperClient::Adopt(const std::string& instance_id) {
  HelperRequest request;
  request.mutable_adopt()->set_instance_id(instance_id);
  ASSIGN_OR_RETURN(Reply reply, Call(std::move(request)));
  return WorkerOf(reply.response.adopt().identity(), &reply.fds);
}

absl::Status HelperClient::Kill(const std::string& instance_id) {
  HelperRequest request;
  request.mutable_kill()->set_instance_id(instance_id);
  return Call(std::move(request)).status();
}

absl::StatusOr<GoneWorker> HelperClient::Examine(const std::string& instance_id) {
  HelperRequest request;
  request.mutable_examine()->set_instance_id(instance_id);
  ASSIGN_OR_RETURN(const Reply reply, Call(std::move(request)));
  return GoneIn(reply.response.adopt());
}

absl::StatusOr<GoneWorker> HelperClient::Reap(const std::string& instance_id) {
  HelperRequest request;
  request.mutable_reap()->set_instance_id(instance_id);
  ASSIGN_OR_RETURN(const Reply reply, Call(std::move(request)));
  return GoneIn(reply.response.adopt());
}

absl::StatusOr<HelperProbe> HelperClient::Probe() {
  HelperRequest request;
  request.mutable_probe();
  ASSIGN_OR_RETURN(const Reply reply, Call(std::move(request)));
  const worker::v1::ProbeResponse& body = reply.response.probe();
  HelperProbe probe;
  probe.kvm_unusable = body.kvm_unusable();
  probe.capabilities.insert(body.capabilities().begin(), body.capabilities().end());
  probe.cgroup_version = body.cgroup_version();
  probe.warnings.assign(body.warnings().begin(), body.warnings().end());
  probe.image_directories.assign(body.image_directories().begin(), body.image_directories().end());
  return probe;
}

absl::StatusOr<std::vector<std::string>> HelperClient::ListWorkers() {
  HelperRequest request;
  request.mutable_list_workers();
  ASSIGN_OR_RETURN(const Reply reply, Call(std::move(request)));
  const auto& ids = reply.response.list_workers().instance_ids();
  return std::vector<std::string>(ids.begin(), ids.end());
}

}  // namespace drover
