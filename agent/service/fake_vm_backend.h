#ifndef DROVER_AGENT_SERVICE_FAKE_VM_BACKEND_H_
#define DROVER_AGENT_SERVICE_FAKE_VM_BACKEND_H_

#include <map>
#include <string>
#include <vector>

#include "agent/vms/vm_backend.h"
#include "vmm/base/fd.h"
#include "vmm/base/mutex.h"

namespace drover {

// A VmBackend in memory, with the API's rules but no workers: each VM's console is a socket pair
// whose other end the test holds. Thread-safe.
class FakeVmBackend : public VmBackend {
 public:
  absl::StatusOr<VmView> Create(const CreateVmParams& params) override;
  absl::StatusOr<VmView> Get(const std::string& id) override;
  absl::StatusOr<VmPage> List(int32_t page_size, const std::string& page_token) override;
  absl::StatusOr<VmView> Start(const std::string& id, const std::string& etag) override;
  absl::StatusOr<VmView> Stop(const std::string& id, const std::string& etag,
                              std::chrono::nanoseconds grace, bool force,
                              const IsCancelled& cancelled) override;
  absl::StatusOr<VmView> Pause(const std::string& id, const std::string& etag) override;
  absl::StatusOr<VmView> Resume(const std::string& id, const std::string& etag) override;
  absl::StatusOr<VmView> Reboot(const std::string& id, const std::string& etag) override;
  absl::Status Delete(const std::string& id, const std::string& etag, bool force,
                      bool allow_missing) override;
  absl::StatusOr<ConsoleAttachment> AttachConsole(const std::string& id) override;
  std::vector<VmView> Snapshot() override;

  // The next call of any kind returns this error.
  void FailNext(absl::Status error);
  // The guest's end of the console attached last; waits until there is one.
  Fd TakeGuestConsole();
  // What the next AttachConsole says was lost.
  void SetLostBytes(uint64_t lost);
  // What a VM got of its features.
  void SetPlan(const std::string& id, const VmPlan& plan);
  // From now on a Stop lasts until it is cancelled.
  void HangStops();
  // What the last Stop was given.
  std::chrono::nanoseconds last_grace() const;
  bool last_force() const;

 private:
  absl::StatusOr<VmView*> Find(const std::string& id, const std::string& etag)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<VmView> Move(const std::string& id, const std::string& etag,
                              const std::vector<VmState>& from, VmState to);
  absl::Status TakeFailure() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  CondVar attached_;
  std::map<std::string, VmView> vms_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  Fd guest_console_ ABSL_GUARDED_BY(mutex_);
  uint64_t lost_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::chrono::nanoseconds last_grace_ ABSL_GUARDED_BY(mutex_){0};
  bool last_force_ ABSL_GUARDED_BY(mutex_) = false;
  bool hang_stops_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_FAKE_VM_BACKEND_H_
