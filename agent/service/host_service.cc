#include "agent/service/host_service.h"

#include "agent/service/rpc_status.h"
#include "agent/service/time_proto.h"

namespace drover {
namespace {

void ResourcesToProto(const HostResources& resources, v1::HostResources* proto) {
  proto->set_vcpus(resources.vcpus);
  proto->set_memory_mib(resources.memory_mib);
  proto->set_vms(resources.vms);
}

void HypervisorToProto(const HostView& host, v1::Hypervisor* proto) {
  const HelperProbe& probe = host.probe;
  proto->set_kind(host.hypervisor_kind);
  proto->set_unusable(probe.kvm_unusable);
  proto->set_max_vcpus(CapabilityNumber(probe, "max_vcpus"));
  proto->set_dirty_page_tracking(CapabilityFlag(probe, "dirty_page_tracking"));
  proto->set_postcopy_restore(CapabilityFlag(probe, "postcopy_restore"));
  proto->set_exposes_vcpu_exits(CapabilityFlag(probe, "exposes_vcpu_exits"));
  proto->set_custom_mmio_devices(CapabilityFlag(probe, "custom_mmio_devices"));
  for (const std::string& name : host.withheld) proto->add_withheld_capabilities(name);
  proto->mutable_capabilities()->insert(probe.capabilities.begin(), probe.capabilities.end());
}

}  // namespace

void HostToProto(const HostView& host, v1::Host* proto) {
  proto->set_hostname(host.facts.hostname);
  proto->set_kernel_release(host.facts.kernel_release);
  proto->set_architecture(host.facts.architecture);
  proto->set_agent_version(host.agent_version);
  NanosToProto(host.agent_start_time, proto->mutable_agent_start_time());
  ResourcesToProto(host.capacity, proto->mutable_capacity());
  ResourcesToProto(host.allocated, proto->mutable_allocated());
  HypervisorToProto(host, proto->mutable_hypervisor());
  if (host.probe.cgroup_version != 0)
    proto->set_cgroup_version("v" + std::to_string(host.probe.cgroup_version));
  for (const std::string& directory : host.probe.image_directories)
    proto->add_image_directories(directory);
  for (const std::string& warning : host.probe.warnings) proto->add_warnings(warning);
}

grpc::Status HostService::GetHost(grpc::ServerContext*, const v1::GetHostRequest*,
                                  v1::Host* response) {
  const absl::StatusOr<VmBackend*> vms = gate_.Pass();
  if (!vms.ok()) return ToGrpcStatus(vms.status());
  HostToProto(host_.Describe((*vms)->Snapshot()), response);
  return grpc::Status::OK;
}

}  // namespace drover
