#ifndef DROVER_AGENT_HELPER_WORKER_SLOTS_H_
#define DROVER_AGENT_HELPER_WORKER_SLOTS_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/helper/helper.h"
#include "agent/jail/cgroup.h"
#include "agent/jail/namespaces.h"
#include "agent/jail/uid_pool.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"
#include "vmm/base/unix_channel.h"

namespace drover {

// A jailed process with what is its own: a user id and a cgroup.
struct WorkerSlot {
  pid_t pid = 0;
  Fd pidfd;  // invalid for a process that ended before this helper started
  uint64_t start_ticks = 0;
  uint32_t uid = 0;                    // 0: not known
  std::string cgroup;                  // name under the parent; empty: not known
  UnixChannel channel;                 // to its descriptor 3, until its launch
  std::optional<CgroupLimits> limits;  // of the cgroup, where they are known
};

// The device that workers need. FAILED_PRECONDITION (KVM_UNUSABLE) says what to do.
absl::StatusOr<Fd> OpenKvm(const std::string& device);

// Makes slots and takes them apart. Loop-bound.
class WorkerSlots {
 public:
  struct Options {
    std::string worker;
    std::string kvm_device;
    std::string userfaultfd_device;  // passed on where it can be opened
    std::string cgroup_parent;
    std::string cgroup_root;
    std::string tag;  // begins the names of its cgroups
    UidRange uids;
    NamespaceSet namespaces;
  };

  WorkerSlots(EventLoop* loop, Options options)
      : loop_(loop), options_(std::move(options)), uids_(options_.uids) {}
  ~WorkerSlots();

  // A jailed worker that waits for its launch. An error leaves nothing.
  absl::StatusOr<WorkerSlot> Make();

  // Sets the limits of the slot's cgroup, unless it has them.
  absl::Status SetLimits(WorkerSlot* slot, const CgroupLimits& limits);

  // Runs the worker program in a jail with `argument` to its end, at most 10 s; what it wrote to
  // standard output, at most 64 KiB.
  absl::StatusOr<std::string> RunToEnd(const std::string& argument);

  // Kills the process if it lives, waits for it, removes the cgroup, then releases the uid: at once
  // where it has ended, else from the loop.
  void Destroy(WorkerSlot slot);
  // How many are not yet taken apart.
  size_t dying() const { return dying_.size(); }

  // SIGKILL to the slot's processes.
  absl::Status Kill(const WorkerSlot& slot);

  // For slots of an earlier helper.
  void Reserve(uint32_t uid) { uids_.Reserve(uid); }
  // Kills and removes the cgroups of this state directory that are not in `used`.
  void DestroyCgroupsExcept(const std::map<std::string, bool>& used);

  // Opened when first needed, and again after a failure.
  absl::StatusOr<Cgroups*> cgroups();
  const NamespaceSet& namespaces() const { return options_.namespaces; }

 private:
  struct Dying {
    WorkerSlot slot;
    int attempts = 0;
  };

  absl::Status Spawn(WorkerSlot* slot);
  absl::Status SpawnIn(Cgroups* cgroups, WorkerSlot* slot);
  void Bury(uint64_t id);
  absl::Status RemoveCgroup(const WorkerSlot& slot);

  EventLoop* const loop_;
  const Options options_;
  UidPool uids_;
  std::unique_ptr<Cgroups> cgroups_;
  std::map<uint64_t, Dying> dying_;
  uint64_t next_dying_ = 1;
};

// Collects a child that has ended; nullopt for one that lives, was collected before, or is
// another's.
std::optional<ProcessEnd> ReapChild(int pidfd);

}  // namespace drover

#endif  // DROVER_AGENT_HELPER_WORKER_SLOTS_H_
