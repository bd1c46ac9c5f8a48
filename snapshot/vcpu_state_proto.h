#ifndef DROVER_SNAPSHOT_VCPU_STATE_PROTO_H_
#define DROVER_SNAPSHOT_VCPU_STATE_PROTO_H_

#include "proto/snapshot/v1/vcpu_state.pb.h"
#include "snapshot/field_path.h"
#include "vmm/core/vcpu_state.h"

namespace drover {

// The ranges of vcpu_state.proto; what does not fit becomes a problem of the reader's.
VcpuState VcpuFromProto(const snapshot::v1::VcpuState& proto, FieldReader* reader);
void VcpuToProto(const VcpuState& state, FieldWriter* writer, snapshot::v1::VcpuState* proto);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_VCPU_STATE_PROTO_H_
