#include "agent/registry/record_proto.h"

#include "absl/strings/str_cat.h"
#include "proto/registry/v1/registry.pb.h"
#include "vmm/base/status.h"
#include "vmm/core/vm_plan_proto.h"

namespace drover {
namespace {

void SpecToProto(const VmSpec& spec, registry::v1::VmRecord* proto) {
  proto->set_vcpus(spec.vcpus);
  proto->set_memory_mib(spec.memory_mib);
  proto->set_kernel_path(spec.kernel_path);
  proto->set_initrd_path(spec.initrd_path);
  proto->set_command_line(spec.command_line);
  FeaturesToProto(spec.features, proto->mutable_features());
}

void StateToProto(const VmRecord& record, registry::v1::VmRecord* proto) {
  proto->set_state(static_cast<int32_t>(record.state));
  proto->set_state_reason(record.state_reason);
  proto->set_state_message(record.state_message);
  proto->set_state_change_time(record.state_change_time);
  proto->set_generation(record.generation);
  proto->set_boot_count(record.boot_count);
  proto->set_boots_before(record.boots_before);
  proto->set_instance_id(record.instance_id);
  proto->set_deleting(record.deleting);
  proto->set_stop_deadline(record.stop_deadline);
}

VmSpec SpecFromProto(const registry::v1::VmRecord& proto) {
  return {proto.vcpus(),       proto.memory_mib(),   proto.kernel_path(),
          proto.initrd_path(), proto.command_line(), FeaturesFromProto(proto.features())};
}

void StateFromProto(const registry::v1::VmRecord& proto, VmRecord* record) {
  record->state = static_cast<VmState>(proto.state());
  record->state_reason = proto.state_reason();
  record->state_message = proto.state_message();
  record->state_change_time = proto.state_change_time();
  record->generation = proto.generation();
  record->boot_count = proto.boot_count();
  record->boots_before = proto.boots_before();
  record->instance_id = proto.instance_id();
  record->deleting = proto.deleting();
  record->stop_deadline = proto.stop_deadline();
}

absl::Status CheckRecord(const registry::v1::VmRecord& proto) {
  if (proto.id().empty() || proto.uid().empty())
    return absl::DataLossError("a record without id or uid");
  if (proto.state() < static_cast<int32_t>(VmState::kCreated) ||
      proto.state() > static_cast<int32_t>(VmState::kUnknown))
    return absl::DataLossError(
        absl::StrCat("the record of ", proto.id(), " has the unknown state ", proto.state()));
  return absl::OkStatus();
}

}  // namespace

std::string EncodeRecord(const VmRecord& record) {
  registry::v1::VmRecord proto;
  proto.set_id(record.id);
  proto.set_uid(record.uid);
  SpecToProto(record.spec, &proto);
  PlanToProto(record.plan, proto.mutable_plan());
  proto.mutable_labels()->insert(record.labels.begin(), record.labels.end());
  proto.set_create_time(record.create_time);
  proto.set_request_id(record.request_id);
  StateToProto(record, &proto);
  return proto.SerializeAsString();
}

absl::StatusOr<VmRecord> DecodeRecord(absl::string_view bytes) {
  registry::v1::VmRecord proto;
  if (!proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return absl::DataLossError(absl::StrCat("a record of ", bytes.size(), " bytes is damaged"));
  RETURN_IF_ERROR(CheckRecord(proto));
  VmRecord record;
  record.id = proto.id();
  record.uid = proto.uid();
  record.spec = SpecFromProto(proto);
  record.plan = PlanFromProto(proto.plan());
  record.labels.insert(proto.labels().begin(), proto.labels().end());
  record.create_time = proto.create_time();
  record.request_id = proto.request_id();
  StateFromProto(proto, &record);
  return record;
}

}  // namespace drover
