#ifndef DROVER_AGENT_VMS_WORKER_DEATH_H_
#define DROVER_AGENT_VMS_WORKER_DEATH_H_

#include <optional>
#include <string>

#include "agent/helper/helper.h"

namespace drover {

// A state_reason and a state_message.
struct WorkerDeath {
  std::string reason;
  std::string message;
};

// Of a worker that ended without last words: JAIL_VIOLATION where its seccomp filter killed it
// (SIGSYS), WORKER_DIED otherwise. nullopt: how it ended is not known.
WorkerDeath DescribeDeath(const std::optional<ProcessEnd>& end);

}  // namespace drover

#endif  // DROVER_AGENT_VMS_WORKER_DEATH_H_
