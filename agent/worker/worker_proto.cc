#include "agent/worker/worker_proto.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "proto/worker/v1/worker.pb.h"
#include "vmm/base/status.h"
#include "vmm/base/status_proto.h"
#include "vmm/core/vm_plan_proto.h"

namespace drover {
namespace {

constexpr size_t kMaxReasonBytes = 63;
constexpr size_t kMaxMessageBytes = 1024;
constexpr size_t kMaxWordBytes = 64;
constexpr size_t kMaxVersionBytes = 64;
constexpr size_t kMaxInstanceBytes = 63;

bool IsReasonCharacter(char c) {
  return absl::ascii_isupper(c) || absl::ascii_isdigit(c) || c == '_';
}

std::string CleanReason(const std::string& reason) {
  const bool good = reason.size() <= kMaxReasonBytes &&
                    std::all_of(reason.begin(), reason.end(), IsReasonCharacter);
  return good ? reason : "MALFORMED_REASON";
}

bool IsFieldCharacter(char c) {
  return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_' || c == '.';
}

std::string CleanField(const std::string& field) {
  return std::all_of(field.begin(), field.end(), IsFieldCharacter) ? field : "";
}

std::string CleanText(const std::string& text, size_t limit) {
  std::string out = text.substr(0, limit);
  std::replace_if(
      out.begin(), out.end(), [](char c) { return !absl::ascii_isprint(c); }, '?');
  return out;
}

ReportedState StateOf(int state) {
  const bool known = state >= 0 && state <= static_cast<int>(ReportedState::kFailed);
  return known ? static_cast<ReportedState>(state) : ReportedState::kUnspecified;
}

VmPlan PlanOf(const worker::v1::MachinePlan& proto) {
  VmPlan plan = PlanFromProto(proto);
  for (Fallback& fallback : plan.fallbacks) {
    fallback.field = CleanField(fallback.field.substr(0, kMaxWordBytes));
    fallback.wanted = CleanText(fallback.wanted, kMaxWordBytes);
    fallback.taken = CleanText(fallback.taken, kMaxWordBytes);
    fallback.capability = CleanField(fallback.capability.substr(0, kMaxWordBytes));
    fallback.reason = CleanText(fallback.reason, kMaxMessageBytes);
  }
  return plan;
}

MachineReport ReportOf(const worker::v1::MachineStatus& proto) {
  return {StateOf(proto.state()), CleanReason(proto.reason()),
          CleanText(proto.message(), kMaxMessageBytes), proto.boot_count(), PlanOf(proto.plan())};
}

WorkerGreeting GreetingOf(const worker::v1::HelloResponse& proto) {
  return {proto.protocol(), CleanText(proto.version(), kMaxVersionBytes),
          CleanText(proto.instance_id(), kMaxInstanceBytes + 1), ReportOf(proto.machine())};
}

absl::Status StatusOf(const worker::v1::Status& proto) {
  const absl::Status raw = StatusFromProto(proto);
  if (raw.ok()) return raw;
  absl::Status status(raw.code(), CleanText(std::string(raw.message()), kMaxMessageBytes));
  if (const auto error = PosixErrno(raw)) status = WithPosixErrno(std::move(status), *error);
  status = WithField(WithReason(std::move(status), CleanReason(ReasonOf(raw))),
                     CleanField(FieldOf(raw)));
  return WithCapability(std::move(status), CleanField(CapabilityOf(raw)));
}

void FillHello(worker::v1::HelloRequest* hello) {
  hello->set_min_protocol(kMinWorkerProtocol);
  hello->set_max_protocol(kMaxWorkerProtocol);
}

void FillConfigure(const MachineConfig& config, worker::v1::ConfigureRequest* proto) {
  proto->set_vm_id(config.vm_id);
  proto->set_vcpus(config.vcpus);
  proto->set_memory_bytes(config.memory_bytes);
  proto->set_command_line(config.command_line);
  FeaturesToProto(config.features, proto->mutable_features());
  for (const std::string& name : config.withheld) proto->add_withheld_capabilities(name);
}

void FillCall(WorkerCall call, const MachineConfig& config, worker::v1::WorkerRequest* request) {
  switch (call) {
    case WorkerCall::kHello:
      return FillHello(request->mutable_hello());
    case WorkerCall::kConfigure:
      return FillConfigure(config, request->mutable_configure());
    case WorkerCall::kStart:
      return (void)request->mutable_start();
    case WorkerCall::kPause:
      return (void)request->mutable_pause();
    case WorkerCall::kResume:
      return (void)request->mutable_resume();
    case WorkerCall::kReset:
      return (void)request->mutable_reset();
    case WorkerCall::kPowerButton:
      return (void)request->mutable_power_button();
    case WorkerCall::kStop:
      return (void)request->mutable_stop();
    case WorkerCall::kAttachConsole:
      return (void)request->mutable_attach_console();
  }
}

}  // namespace

const char* WorkerCallName(WorkerCall call) {
  static constexpr const char* kNames[] = {"Hello",       "Configure", "Start",
                                           "Pause",       "Resume",    "Reset",
                                           "PowerButton", "Stop",      "AttachConsole"};
  return kNames[static_cast<int>(call)];
}

std::string EncodeWorkerRequest(uint64_t sequence, WorkerCall call, const MachineConfig& config) {
  worker::v1::WorkerRequest request;
  request.set_sequence(sequence);
  FillCall(call, config, &request);
  return request.SerializeAsString();
}

absl::StatusOr<WorkerAnswer> DecodeWorkerAnswer(absl::string_view bytes) {
  worker::v1::WorkerResponse proto;
  if (!proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return absl::InvalidArgumentError(
        absl::StrCat("the worker sent ", bytes.size(), " bytes that are no response"));
  WorkerAnswer answer;
  answer.sequence = proto.sequence();
  answer.status = StatusOf(proto.status());
  if (proto.has_hello()) answer.greeting = GreetingOf(proto.hello());
  if (proto.has_hello()) answer.machine = answer.greeting->machine;
  if (proto.has_machine()) answer.machine = ReportOf(proto.machine());
  if (proto.has_attach_console()) answer.lost_bytes = proto.attach_console().lost_bytes();
  return answer;
}

absl::StatusOr<MachineReport> DecodeLastWords(absl::string_view bytes,
                                              absl::string_view instance_id) {
  worker::v1::LastWords proto;
  if (bytes.empty()) return absl::InvalidArgumentError("there are no last words");
  if (bytes.size() > kMaxLastWordsBytes ||
      !proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return absl::InvalidArgumentError("the last words cannot be read");
  if (proto.instance_id() != std::string(instance_id))
    return absl::InvalidArgumentError("the last words are another worker's");
  const MachineReport report = ReportOf(proto.machine());
  if (!IsTerminal(report.state)) return absl::InvalidArgumentError("the last words tell of no end");
  return report;
}

}  // namespace drover
