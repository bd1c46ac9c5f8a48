#ifndef DROVER_VMM_WORKER_LAST_WORDS_H_
#define DROVER_VMM_WORKER_LAST_WORDS_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "vmm/base/fd.h"
#include "vmm/worker/machine_state.h"

namespace drover {

// The file in which a worker leaves how its machine ended, for an agent that was not there to hear
// it. Thread-compatible.
class LastWords {
 public:
  // `file` is open for writing and empty.
  LastWords(Fd file, std::string instance_id)
      : file_(std::move(file)), instance_id_(std::move(instance_id)) {}

  // Writes a worker.v1.LastWords message with one pwrite(2). The first call alone writes; later
  // ones change nothing.
  absl::Status Write(const MachineStatus& machine);

 private:
  Fd file_;
  std::string instance_id_;
};

}  // namespace drover

#endif  // DROVER_VMM_WORKER_LAST_WORDS_H_
