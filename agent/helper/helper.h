#ifndef DROVER_AGENT_HELPER_HELPER_H_
#define DROVER_AGENT_HELPER_HELPER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "vmm/base/fd.h"

namespace drover {

// What proves that a process is the worker that was launched (worker.v1.WorkerIdentity).
struct WorkerIdentity {
  std::string instance_id;
  int32_t pid = 0;
  uint64_t start_ticks = 0;  // /proc/PID/stat field 22
  std::string boot_id;
  uint32_t uid = 0;
  std::string cgroup;
  int64_t launch_time = 0;  // seconds since the Unix epoch
};

struct WorkerLaunchOptions {
  std::string instance_id;
  std::string kernel_path;
  std::string initrd_path;  // may be empty
  uint32_t vcpus = 1;
  uint64_t memory_bytes = 0;
};

struct LaunchedWorker {
  WorkerIdentity identity;
  Fd pidfd;  // readable when the worker has ended
};

// How a process ended: by a signal, or, where that is 0, by itself with a status.
struct ProcessEnd {
  int signal = 0;
  int status = 0;
  bool operator==(const ProcessEnd&) const = default;
};

// A worker that is gone: what it said last (a serialized worker.v1.LastWords; hostile; may be
// empty), and how it ended where its helper still lived then.
struct GoneWorker {
  std::string last_words;
  std::optional<ProcessEnd> end;
};

struct HelperProbe {
  std::string kvm_unusable;  // why /dev/kvm cannot be used; empty when it can
  std::map<std::string, std::string> capabilities;
  uint32_t cgroup_version = 0;
  std::vector<std::string> warnings;
  std::vector<std::string> image_directories;
};

// The privileged helper as the agent sees it. Thread-safe; a call blocks until the helper answers
// or its time limit passes (UNAVAILABLE, reason HELPER_GONE).
class Helper {
 public:
  virtual ~Helper() = default;

  // OK for a regular, readable, non-empty file under an allowed directory. The error carries
  // `field` and the reason FILE_NOT_FOUND, FILE_NOT_ALLOWED, FILE_NOT_REGULAR, FILE_NOT_READABLE or
  // FILE_EMPTY.
  virtual absl::Status CheckFile(const std::string& path, const std::string& field) = 0;

  // RESOURCE_EXHAUSTED: WORKER_UIDS_EXHAUSTED, STATE_DIR_FULL; FAILED_PRECONDITION: KVM_UNUSABLE;
  // CheckFile's errors.
  virtual absl::StatusOr<LaunchedWorker> Launch(const WorkerLaunchOptions& options) = 0;

  // The worker when it runs; NOT_FOUND with reason WORKER_GONE (it has ended; Examine gives its
  // last words) or NO_SUCH_INSTANCE.
  virtual absl::StatusOr<LaunchedWorker> Adopt(const std::string& instance_id) = 0;

  // Kills it; does not wait. OK when it is gone already.
  virtual absl::Status Kill(const std::string& instance_id) = 0;

  // What a dead worker left, which stays where it is until Reap. Errors as Reap's.
  virtual absl::StatusOr<GoneWorker> Examine(const std::string& instance_id) = 0;

  // Removes what a dead worker left and returns its last words. FAILED_PRECONDITION (WORKER_ALIVE)
  // while it lives; NOT_FOUND (NO_SUCH_INSTANCE).
  virtual absl::StatusOr<GoneWorker> Reap(const std::string& instance_id) = 0;

  virtual absl::StatusOr<HelperProbe> Probe() = 0;
  virtual absl::StatusOr<std::vector<std::string>> ListWorkers() = 0;
};

}  // namespace drover

#endif  // DROVER_AGENT_HELPER_HELPER_H_
