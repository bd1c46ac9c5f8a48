#ifndef DROVER_VMM_WORKER_VCPU_THREAD_H_
#define DROVER_VMM_WORKER_VCPU_THREAD_H_

#include <pthread.h>

#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/mutex.h"

namespace drover {

// A thread for a vCPU, which can be made, and confined, before there is one: it waits for its work.
// Loop-bound.
class VcpuThread {
 public:
  // What it does, told how `enter` went.
  using Work = std::function<void(const absl::Status& entered)>;

  // `enter` runs first on the thread (seccomp); may be empty. INTERNAL or RESOURCE_EXHAUSTED where
  // there can be no thread.
  static absl::StatusOr<std::unique_ptr<VcpuThread>> Start(std::function<absl::Status()> enter);
  // Waits for the end of the work, where there was any.
  ~VcpuThread();
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;

  // Once.
  void Run(Work work);

 private:
  explicit VcpuThread(std::function<absl::Status()> enter) : enter_(std::move(enter)) {}
  static void* ThreadMain(void* thread);
  void Main();
  void Give(Work work, bool end);

  const std::function<absl::Status()> enter_;
  pthread_t thread_ = {};
  bool started_ = false;
  Mutex mutex_;
  CondVar given_;
  Work work_ ABSL_GUARDED_BY(mutex_);
  bool end_ ABSL_GUARDED_BY(mutex_) = false;
};

// Makes a vCPU's thread, or hands out one that was made ahead.
using VcpuThreadSource = std::function<absl::StatusOr<std::unique_ptr<VcpuThread>>()>;

}  // namespace drover

#endif  // DROVER_VMM_WORKER_VCPU_THREAD_H_
