#ifndef DROVER_AGENT_REGISTRY_FAKE_REGISTRY_H_
#define DROVER_AGENT_REGISTRY_FAKE_REGISTRY_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "agent/registry/registry.h"
#include "vmm/base/mutex.h"

namespace drover {

// A registry in memory, with failures on demand. Thread-safe.
class FakeRegistry : public Registry {
 public:
  absl::StatusOr<std::vector<VmRecord>> Load() override;
  absl::Status Put(const VmRecord& record, Durability durability) override;
  absl::Status Delete(const std::string& id) override;

  // Every write from now on fails with `status`, until it is called with OK.
  void FailWrites(absl::Status status);
  // The next `writes` writes succeed, those after them fail with `status`.
  void FailWritesAfter(int writes, absl::Status status);
  // Called with the number of each write (from 1) before it happens, without the lock.
  void OnWrite(std::function<void(int)> hook);
  // Forgets what was written lazily since the last durable write.
  void LosePower();

  int durable_writes() const;
  int lazy_writes() const;

 private:
  absl::Status Begin();

  mutable Mutex mutex_;
  std::map<std::string, VmRecord> records_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, VmRecord> on_disk_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  int good_writes_ ABSL_GUARDED_BY(mutex_) = 0;
  int writes_ ABSL_GUARDED_BY(mutex_) = 0;
  int durable_writes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::function<void(int)> hook_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace drover

#endif  // DROVER_AGENT_REGISTRY_FAKE_REGISTRY_H_
