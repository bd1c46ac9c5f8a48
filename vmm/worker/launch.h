#ifndef DROVER_VMM_WORKER_LAUNCH_H_
#define DROVER_VMM_WORKER_LAUNCH_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/fd.h"
#include "vmm/base/unix_channel.h"

namespace drover {

// What turns a waiting process into one VM's worker.
struct Launch {
  std::string instance_id;
  Fd control;  // listening SOCK_SEQPACKET socket
  Fd last_words;
  Fd log;
  Fd kernel;
  Fd initrd;  // not valid where there is none
};

// Waits for the helper's WorkerLaunch message. nullopt when the channel closes before it;
// INVALID_ARGUMENT for bytes that are no such message or do not match their descriptors.
absl::StatusOr<std::optional<Launch>> ReceiveLaunch(UnixChannel& channel);

}  // namespace drover

#endif  // DROVER_VMM_WORKER_LAUNCH_H_
