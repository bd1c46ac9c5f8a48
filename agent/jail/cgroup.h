#ifndef DROVER_AGENT_JAIL_CGROUP_H_
#define DROVER_AGENT_JAIL_CGROUP_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/fd.h"

namespace drover {

// What one worker may use. Swap: none.
struct CgroupLimits {
  uint64_t memory_bytes = 0;
  uint32_t cpu_percent = 0;  // 100: one CPU
  uint32_t tasks = 0;

  // For a guest of that size: its memory and 64 MiB + 1 MiB a vCPU + 1/128 (page tables, dirty
  // logs) for the worker and the kernel's part of it; its vCPUs and half a CPU for devices.
  static CgroupLimits ForGuest(uint32_t vcpus, uint64_t memory_bytes);
  bool operator==(const CgroupLimits&) const = default;
};

// How a child gets into its group: cloned into it (v2), or by writing "0" to each of `joins` itself
// (v1). Moving it from outside would wait some 10 ms for every fork on the host.
struct CgroupEntry {
  Fd clone_target;
  std::vector<Fd> joins;
};

// The groups under one parent, one for each worker. A name is one path element of a-z, 0-9 and '-'.
// Thread-compatible.
class Cgroups {
 public:
  virtual ~Cgroups() = default;

  virtual uint32_t version() const = 0;
  // The group's path from the root of the hierarchy, such as "/drover/NAME".
  virtual std::string PathOf(const std::string& name) const = 0;

  // ALREADY_EXISTS when it is there. An error leaves nothing.
  virtual absl::Status Create(const std::string& name) = 0;
  virtual absl::StatusOr<CgroupEntry> Enter(const std::string& name) = 0;
  // May be repeated with other limits.
  virtual absl::Status SetLimits(const std::string& name, const CgroupLimits& limits) = 0;
  // SIGKILL to all in it, also to what they fork meanwhile. OK when there is no such group.
  virtual absl::Status Kill(const std::string& name) = 0;
  // UNAVAILABLE while processes end in it: try again. OK when there is no such group.
  virtual absl::Status Remove(const std::string& name) = 0;
  virtual absl::StatusOr<std::vector<std::string>> List() const = 0;
};

// OK for a path below the root: names that are neither empty nor "." nor "..", with '/' between.
absl::Status CheckCgroupParent(const std::string& parent);

// What is mounted at `root`, with `parent` ("drover", "a/b") made where it is not there: cgroup v2
// with the controllers cpu, memory and pids, or else v1's hierarchies of these names.
// FAILED_PRECONDITION (CGROUPS_UNUSABLE) when there is neither or the parent cannot be used.
absl::StatusOr<std::unique_ptr<Cgroups>> OpenCgroups(const std::string& parent,
                                                     const std::string& root = "/sys/fs/cgroup");

// For the implementations.

// The names of the directories in `directory`.
absl::StatusOr<std::vector<std::string>> ListGroups(const std::string& directory);
// rmdir(2): OK when it is not there, UNAVAILABLE while it is in use.
absl::Status RemoveGroup(const std::string& directory);
// Makes a directory and those above it, up to `root`, which exists.
absl::Status MakeGroups(const std::string& root, const std::string& path);
// SIGKILL to each process that cgroup.procs names, once. OK when there is no such group.
absl::Status KillListed(const std::string& directory);
absl::Status WriteKnob(const std::string& directory, const char* knob, uint64_t value);

absl::StatusOr<std::unique_ptr<Cgroups>> OpenCgroupsV1(const std::string& parent,
                                                       const std::string& root);
absl::StatusOr<std::unique_ptr<Cgroups>> OpenCgroupsV2(const std::string& parent,
                                                       const std::string& root);

}  // namespace drover

#endif  // DROVER_AGENT_JAIL_CGROUP_H_
