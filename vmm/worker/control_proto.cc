#include "vmm/worker/control_proto.h"

#include "proto/worker/v1/helper.pb.h"
#include "proto/worker/v1/worker.pb.h"
#include "vmm/base/status_proto.h"
#include "vmm/core/vm_plan_proto.h"

namespace drover {
namespace {

namespace pb = worker::v1;

ConfigureCall ConfigureOf(const pb::ConfigureRequest& proto) {
  return {proto.vm_id(),
          proto.vcpus(),
          proto.memory_bytes(),
          proto.command_line(),
          FeaturesFromProto(proto.features()),
          {proto.withheld_capabilities().begin(), proto.withheld_capabilities().end()}};
}

ControlCall CallOf(const pb::WorkerRequest& request) {
  switch (request.call_case()) {
    case pb::WorkerRequest::kHello:
      return HelloCall{request.hello().min_protocol(), request.hello().max_protocol()};
    case pb::WorkerRequest::kConfigure:
      return ConfigureOf(request.configure());
    case pb::WorkerRequest::kStart:
      return StartCall{};
    case pb::WorkerRequest::kPause:
      return PauseCall{};
    case pb::WorkerRequest::kResume:
      return ResumeCall{};
    case pb::WorkerRequest::kReset:
      return ResetCall{};
    case pb::WorkerRequest::kPowerButton:
      return PowerButtonCall{};
    case pb::WorkerRequest::kStop:
      return StopCall{};
    case pb::WorkerRequest::kAttachConsole:
      return AttachConsoleCall{};
    default:
      return UnknownCall{};
  }
}

// worker.v1.MachineState numbers the same states from 1 on.
pb::MachineState StateToProto(MachineState state) {
  static_assert(pb::MACHINE_STATE_CREATED == static_cast<int>(MachineState::kCreated) + 1);
  static_assert(pb::MACHINE_STATE_FAILED == static_cast<int>(MachineState::kFailed) + 1);
  return static_cast<pb::MachineState>(static_cast<int>(state) + 1);
}

void FillMachine(const MachineStatus& machine, pb::MachineStatus* out) {
  out->set_state(StateToProto(machine.state));
  out->set_reason(machine.reason);
  out->set_message(machine.message);
  out->set_boot_count(machine.boot_count);
  if (machine.plan != VmPlan()) PlanToProto(machine.plan, out->mutable_plan());
}

struct BodyFiller {
  pb::WorkerResponse* out;
  void operator()(const std::monostate&) const {}
  void operator()(const MachineStatus& machine) const {
    FillMachine(machine, out->mutable_machine());
  }
  void operator()(const ConsoleAnswer& console) const {
    out->mutable_attach_console()->set_lost_bytes(console.lost_bytes);
  }
  void operator()(const HelloAnswer& hello) const {
    out->mutable_hello()->set_protocol(hello.protocol);
    out->mutable_hello()->set_version(hello.version);
    out->mutable_hello()->set_instance_id(hello.instance_id);
    FillMachine(hello.machine, out->mutable_hello()->mutable_machine());
  }
};

}  // namespace

absl::StatusOr<ControlRequest> ParseControlRequest(absl::string_view bytes) {
  pb::WorkerRequest request;
  if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return absl::InvalidArgumentError("not a WorkerRequest");
  if (request.sequence() == 0)
    return absl::InvalidArgumentError("a WorkerRequest without sequence");
  return ControlRequest{request.sequence(), CallOf(request)};
}

std::string SerializeControlResponse(uint64_t sequence, const absl::Status& status,
                                     const ControlBody& body) {
  pb::WorkerResponse response;
  response.set_sequence(sequence);
  *response.mutable_status() = StatusToProto(status);
  std::visit(BodyFiller{&response}, body);
  return response.SerializeAsString();
}

std::string SerializeLastWords(absl::string_view instance_id, const MachineStatus& machine) {
  pb::LastWords words;
  words.set_instance_id(std::string(instance_id));
  FillMachine(machine, words.mutable_machine());
  return words.SerializeAsString();
}

absl::StatusOr<LaunchHeader> ParseLaunchHeader(absl::string_view bytes) {
  pb::WorkerLaunch launch;
  if (!launch.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return absl::InvalidArgumentError("not a WorkerLaunch");
  if (launch.instance_id().empty())
    return absl::InvalidArgumentError("a WorkerLaunch without instance_id");
  return LaunchHeader{launch.instance_id(), launch.has_initrd()};
}

}  // namespace drover
