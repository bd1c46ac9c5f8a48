#ifndef DROVER_AGENT_VMS_UUID_H_
#define DROVER_AGENT_VMS_UUID_H_

#include <string>

namespace drover {

// A random UUID (RFC 4122, version 4) in lower case.
std::string NewUuid();

}  // namespace drover

#endif  // DROVER_AGENT_VMS_UUID_H_
