#ifndef DROVER_AGENT_REGISTRY_REGISTRY_H_
#define DROVER_AGENT_REGISTRY_REGISTRY_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/registry/vm_record.h"

namespace drover {

// How far a write has gone when it returns.
enum class Durability {
  // On the disk: it survives a loss of power.
  kDurable,
  // With the kernel: it survives the end of the agent at any instant, and a later durable write
  // takes it to the disk.
  kLazy,
};

// The VMs of this host, kept over the agent's life. Thread-safe; calls block for the disk. A write
// that fails has changed nothing.
class Registry {
 public:
  virtual ~Registry() = default;

  // Every record, in the order of ids. DATA_LOSS (REGISTRY_CORRUPT) when one cannot be read.
  virtual absl::StatusOr<std::vector<VmRecord>> Load() = 0;

  // Inserts the record, or replaces the one with its id. RESOURCE_EXHAUSTED (STATE_DIR_FULL) when
  // the disk is full; other failures carry REGISTRY_*.
  virtual absl::Status Put(const VmRecord& record, Durability durability) = 0;

  // Forgets the record, durably. OK when there is none. Errors as for Put.
  virtual absl::Status Delete(const std::string& id) = 0;
};

}  // namespace drover

#endif  // DROVER_AGENT_REGISTRY_REGISTRY_H_
