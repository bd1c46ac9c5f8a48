#ifndef DROVER_AGENT_SERVICE_TIME_PROTO_H_
#define DROVER_AGENT_SERVICE_TIME_PROTO_H_

#include <google/protobuf/timestamp.pb.h>

#include <cstdint>

namespace drover {

// Nanoseconds since the Unix epoch (not before it) as a Timestamp.
inline void NanosToProto(int64_t unix_nanos, google::protobuf::Timestamp* proto) {
  proto->set_seconds(unix_nanos / 1'000'000'000);
  proto->set_nanos(static_cast<int32_t>(unix_nanos % 1'000'000'000));
}

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_TIME_PROTO_H_
