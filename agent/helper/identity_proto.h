#ifndef DROVER_AGENT_HELPER_IDENTITY_PROTO_H_
#define DROVER_AGENT_HELPER_IDENTITY_PROTO_H_

#include "agent/helper/helper.h"
#include "proto/worker/v1/helper.pb.h"

namespace drover {

worker::v1::WorkerIdentity IdentityToProto(const WorkerIdentity& identity);
WorkerIdentity IdentityFromProto(const worker::v1::WorkerIdentity& proto);

}  // namespace drover

#endif  // DROVER_AGENT_HELPER_IDENTITY_PROTO_H_
