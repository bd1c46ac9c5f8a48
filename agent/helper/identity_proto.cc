#include "agent/helper/identity_proto.h"

namespace drover {

worker::v1::WorkerIdentity IdentityToProto(const WorkerIdentity& identity) {
  worker::v1::WorkerIdentity proto;
  proto.set_instance_id(identity.instance_id);
  proto.set_pid(identity.pid);
  proto.set_start_ticks(identity.start_ticks);
  proto.set_boot_id(identity.boot_id);
  proto.set_uid(identity.uid);
  proto.set_cgroup(identity.cgroup);
  proto.set_launch_time(identity.launch_time);
  return proto;
}

WorkerIdentity IdentityFromProto(const worker::v1::WorkerIdentity& proto) {
  return {.instance_id = proto.instance_id(),
          .pid = proto.pid(),
          .start_ticks = proto.start_ticks(),
          .boot_id = proto.boot_id(),
          .uid = proto.uid(),
          .cgroup = proto.cgroup(),
          .launch_time = proto.launch_time()};
}

}  // namespace drover
