#ifndef DROVER_AGENT_WORKER_WORKER_PROTO_H_
#define DROVER_AGENT_WORKER_WORKER_PROTO_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/worker/machine_report.h"

namespace drover {

// The control protocol's versions that this agent speaks.
inline constexpr uint32_t kMinWorkerProtocol = 1;
inline constexpr uint32_t kMaxWorkerProtocol = 1;

// A last-words file is never longer.
inline constexpr size_t kMaxLastWordsBytes = 64 * 1024;

enum class WorkerCall {
  kHello,
  kConfigure,
  kStart,
  kPause,
  kResume,
  kReset,
  kPowerButton,
  kStop,
  kAttachConsole,
};
const char* WorkerCallName(WorkerCall call);

// A serialized worker.v1.WorkerRequest; `config` is of kConfigure only.
std::string EncodeWorkerRequest(uint64_t sequence, WorkerCall call, const MachineConfig& config);

// A worker.v1.WorkerResponse, cleaned.
struct WorkerAnswer {
  uint64_t sequence = 0;  // 0: an event
  absl::Status status;
  std::optional<WorkerGreeting> greeting;
  std::optional<MachineReport> machine;  // the greeting's, too
  std::optional<uint64_t> lost_bytes;    // of an attached console
};

// INVALID_ARGUMENT for bytes that are no response.
absl::StatusOr<WorkerAnswer> DecodeWorkerAnswer(absl::string_view bytes);

// The end that a worker of this instance told of. INVALID_ARGUMENT for bytes that are no last
// words, another instance's, or not of an end.
absl::StatusOr<MachineReport> DecodeLastWords(absl::string_view bytes,
                                              absl::string_view instance_id);

}  // namespace drover

#endif  // DROVER_AGENT_WORKER_WORKER_PROTO_H_
