#ifndef DROVER_SNAPSHOT_IRQCHIP_STATE_PROTO_H_
#define DROVER_SNAPSHOT_IRQCHIP_STATE_PROTO_H_

#include "proto/snapshot/v1/irqchip_state.pb.h"
#include "snapshot/field_path.h"
#include "snapshot/microvm_state.h"
#include "vmm/core/irqchip_state.h"

namespace drover {

// The ranges of irqchip_state.proto; what does not fit becomes a problem of the reader's.
IrqchipState IrqchipFromProto(const snapshot::v1::IrqchipState& proto, FieldReader* reader);
void IrqchipToProto(const IrqchipState& state, FieldWriter* writer,
                    snapshot::v1::IrqchipState* proto);

GicState GicFromProto(const snapshot::v1::GicState& proto, FieldReader* reader);
void GicToProto(const GicState& state, snapshot::v1::GicState* proto);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_IRQCHIP_STATE_PROTO_H_
