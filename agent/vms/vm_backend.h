#ifndef DROVER_AGENT_VMS_VM_BACKEND_H_
#define DROVER_AGENT_VMS_VM_BACKEND_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/fd.h"
#include "vmm/core/vm_plan.h"

namespace drover {

// The VM's state as the API shows it; the numbers are drover.v1.VmState's.
enum class VmState {
  kCreated = 1,
  kStarting = 2,
  kRunning = 3,
  kPaused = 4,
  kStopping = 5,
  kStopped = 6,
  kFailed = 7,
  kUnknown = 8,
};

struct VmSpec {
  int32_t vcpus = 0;
  int32_t memory_mib = 0;
  std::string kernel_path;
  std::string initrd_path;
  std::string command_line;
  VmFeatures features;
  bool operator==(const VmSpec&) const = default;
};

struct VmWorkerView {
  int32_t pid = 0;
  uint32_t uid = 0;
  std::string cgroup;
  int64_t start_time = 0;  // seconds since the Unix epoch
  std::string version;
};

// One VM as it was at one moment.
struct VmView {
  std::string id;
  std::string uid;
  VmSpec spec;
  std::map<std::string, std::string> labels;
  VmState state = VmState::kCreated;
  std::string state_reason;
  std::string state_message;
  int64_t create_time = 0;        // nanoseconds since the Unix epoch
  int64_t state_change_time = 0;  // nanoseconds since the Unix epoch
  int64_t generation = 0;         // the etag is its decimal text
  int32_t boot_count = 0;
  VmPlan plan;  // of the create, then of the worker that ran last
  std::optional<VmWorkerView> worker;
};

struct CreateVmParams {
  std::string id;
  VmSpec spec;
  std::map<std::string, std::string> labels;
  std::string request_id;
  bool validate_only = false;
};

struct VmPage {
  std::vector<VmView> vms;
  std::string next_page_token;
};

// One attached console: a stream socket (kept output first, then what follows; what is written goes
// to the guest).
struct ConsoleAttachment {
  Fd socket;
  uint64_t lost_bytes = 0;
};

// Whether nobody waits for a call's answer any more. Asked now and then on the call's thread.
using IsCancelled = std::function<bool()>;

// Everything the API can do to VMs, without gRPC. Thread-safe; calls block their thread. `etag` may
// be empty.
//
// Errors carry a reason (ReasonOf) and, for INVALID_ARGUMENT, each bad field (FieldViolations in
// agent/errors).
class VmBackend {
 public:
  virtual ~VmBackend() = default;
  virtual absl::StatusOr<VmView> Create(const CreateVmParams& params) = 0;
  virtual absl::StatusOr<VmView> Get(const std::string& id) = 0;
  virtual absl::StatusOr<VmPage> List(int32_t page_size, const std::string& page_token) = 0;
  virtual absl::StatusOr<VmView> Start(const std::string& id, const std::string& etag) = 0;
  // Waits for the VM's end. A stop that is cancelled goes on without its caller (CANCELLED,
  // STOP_GOES_ON). Too many that wait for their guests: RESOURCE_EXHAUSTED (TOO_MANY_STOPS).
  virtual absl::StatusOr<VmView> Stop(const std::string& id, const std::string& etag,
                                      std::chrono::nanoseconds grace, bool force,
                                      const IsCancelled& cancelled) = 0;
  virtual absl::StatusOr<VmView> Pause(const std::string& id, const std::string& etag) = 0;
  virtual absl::StatusOr<VmView> Resume(const std::string& id, const std::string& etag) = 0;
  virtual absl::StatusOr<VmView> Reboot(const std::string& id, const std::string& etag) = 0;
  virtual absl::Status Delete(const std::string& id, const std::string& etag, bool force,
                              bool allow_missing) = 0;
  virtual absl::StatusOr<ConsoleAttachment> AttachConsole(const std::string& id) = 0;
  // Every VM there is, for metrics and GetHost.
  virtual std::vector<VmView> Snapshot() = 0;
};

}  // namespace drover

#endif  // DROVER_AGENT_VMS_VM_BACKEND_H_
