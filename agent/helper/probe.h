#ifndef DROVER_AGENT_HELPER_PROBE_H_
#define DROVER_AGENT_HELPER_PROBE_H_

#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "agent/helper/helper.h"
#include "agent/helper/helper_options.h"
#include "agent/helper/worker_slots.h"

namespace drover {

// Lines of NAME=VALUE; others are passed over.
std::map<std::string, std::string> ParseCapabilities(absl::string_view text);

// Tries what workers will need, with a real jail. What is wrong is in the answer.
HelperProbe ProbeHost(const HelperOptions& options, WorkerSlots* slots);

}  // namespace drover

#endif  // DROVER_AGENT_HELPER_PROBE_H_
