#ifndef DROVER_VMM_WORKER_VCPU_THREADS_H_
#define DROVER_VMM_WORKER_VCPU_THREADS_H_

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/mutex.h"
#include "vmm/core/io_bus.h"
#include "vmm/core/vcpu.h"
#include "vmm/worker/vcpu_exits.h"
#include "vmm/worker/vcpu_thread.h"

namespace drover {

// One thread a vCPU, for the machine's whole life. A thread either runs its vCPU or is parked, in
// which case others may use the vCPU; all are parked at first. Loop-bound, but for RequestStop,
// which any thread may call at any time and which never blocks.
class VcpuThreads {
 public:
  struct Options {
    EventLoop* loop = nullptr;
    const IoBus* ports = nullptr;
    const IoBus* mmio = nullptr;
    // A thread that could not be confined fails the machine at Run. May be empty.
    VcpuThreadSource make_thread;
    // Called on the loop, once between two calls of Run: the machine cannot run on. The vCPU that
    // caused it has parked or is about to; the others are to be parked by Park.
    std::function<void(MachineStop)> on_stop;
  };

  // The vCPUs are borrowed and outlive the threads.
  static absl::StatusOr<std::unique_ptr<VcpuThreads>> Create(Options options,
                                                             const std::vector<Vcpu*>& vcpus);
  // Parks all, ends the threads and waits for them.
  ~VcpuThreads();
  VcpuThreads(const VcpuThreads&) = delete;
  VcpuThreads& operator=(const VcpuThreads&) = delete;

  // Lets all vCPUs run. All are parked before.
  void Run();
  // Interrupts all vCPUs; `parked` is posted to the loop once every one is parked, the I/O of its
  // last exit complete. One call at a time.
  void Park(EventLoop::Task parked);

  // Any thread, that of a vCPU included: ends the run for `stop`; the first since Run counts.
  void RequestStop(MachineStop stop);

 private:
  enum class Mode { kHold, kRun, kEnd };
  struct Slot {
    VcpuThreads* owner = nullptr;
    Vcpu* vcpu = nullptr;
    std::unique_ptr<VcpuThread> thread;
    bool working = false;
    bool parked = true;  // guarded by mutex_
  };

  explicit VcpuThreads(Options options) : options_(std::move(options)) {}
  absl::StatusOr<std::unique_ptr<VcpuThread>> MakeThread() const;
  void Loop(Slot& slot, const absl::Status& entered);
  bool WaitForRun(Slot& slot);
  void NoteParked(Slot& slot);
  void RunVcpu(Slot& slot);
  void Fail(Slot& slot, MachineStop stop);
  void SetMode(Mode mode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void KickRunning() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::atomic<Mode> mode_{Mode::kHold};  // written under mutex_
  std::atomic<bool> stop_requested_{false};

  Mutex mutex_;
  CondVar changed_;
  size_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  EventLoop::Task parked_ ABSL_GUARDED_BY(mutex_);
  // Posted stops hold it weakly: they may be handled after the threads have gone.
  std::shared_ptr<VcpuThreads*> self_ = std::make_shared<VcpuThreads*>(this);
};

}  // namespace drover

#endif  // DROVER_VMM_WORKER_VCPU_THREADS_H_
