#ifndef DROVER_AGENT_HELPER_WORKERS_H_
#define DROVER_AGENT_HELPER_WORKERS_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/helper/helper.h"
#include "agent/helper/instance_store.h"
#include "agent/helper/spare_pool.h"
#include "agent/helper/worker_slots.h"
#include "agent/jail/open_beneath.h"
#include "vmm/base/clock.h"
#include "vmm/base/event_loop.h"

namespace drover {

// The workers of this state directory, also those of earlier helpers: what helper.h promises, apart
// from the transport. It trusts no argument. Loop-bound; workers outlive it.
class Workers {
 public:
  struct Parts {  // borrowed
    EventLoop* loop;
    const Clock* clock;
    InstanceStore* store;
    WorkerSlots* slots;
    SparePool* spares;
    const ImageDirectories* images;
  };

  // Finds the workers that live, and removes what earlier helpers left of spares.
  static absl::StatusOr<std::unique_ptr<Workers>> Create(const Parts& parts);
  ~Workers();

  absl::Status CheckFile(const std::string& path, const std::string& field) const;
  absl::StatusOr<LaunchedWorker> Launch(const WorkerLaunchOptions& options);
  absl::StatusOr<LaunchedWorker> Adopt(const std::string& instance_id) const;
  absl::StatusOr<std::string> LastWords(const std::string& instance_id) const;
  absl::Status Kill(const std::string& instance_id);
  absl::StatusOr<GoneWorker> Examine(const std::string& instance_id);
  absl::StatusOr<GoneWorker> Reap(const std::string& instance_id);
  std::vector<std::string> List() const;

 private:
  struct Worker {
    WorkerIdentity identity;
    WorkerSlot slot;
    std::optional<ProcessEnd> end;
  };
  struct Files {
    Fd kernel;
    Fd initrd;
  };

  Workers(const Parts& parts, std::string boot_id) : parts_(parts), boot_id_(std::move(boot_id)) {}

  absl::Status Recover();
  Worker Recall(const std::string& instance_id) const;
  absl::StatusOr<Files> OpenFiles(const WorkerLaunchOptions& options) const;
  absl::StatusOr<Worker> Assign(const WorkerLaunchOptions& options, const Files& files);
  absl::StatusOr<Worker> AssignSlot(const WorkerLaunchOptions& options, const Files& files,
                                    WorkerSlot* slot);
  absl::Status HandOver(const WorkerLaunchOptions& options, const Files& files,
                        const InstanceFiles& instance, WorkerSlot* slot) const;
  absl::Status SendLaunch(const WorkerLaunchOptions& options, const Files& files,
                          const InstanceFiles& instance, WorkerSlot* slot) const;
  void Keep(Worker worker);
  void Collect(const std::string& instance_id);

  const Parts parts_;
  const std::string boot_id_;
  std::map<std::string, Worker> workers_;
};

}  // namespace drover

#endif  // DROVER_AGENT_HELPER_WORKERS_H_
