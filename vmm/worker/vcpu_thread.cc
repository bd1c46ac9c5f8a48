#include "vmm/worker/vcpu_thread.h"

#include <utility>

#include "vmm/base/status.h"

namespace drover {
namespace {

// Enough for a log line under a sanitizer; only touched pages cost memory.
constexpr size_t kStackBytes = 512 * 1024;

}  // namespace

absl::StatusOr<std::unique_ptr<VcpuThread>> VcpuThread::Start(std::function<absl::Status()> enter) {
  std::unique_ptr<VcpuThread> thread(new VcpuThread(std::move(enter)));
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  const int error = pthread_create(&thread->thread_, &attributes, &ThreadMain, thread.get());
  pthread_attr_destroy(&attributes);
  if (error != 0) return PosixStatus(error, "pthread_create", "of a vCPU");
  thread->started_ = true;
  return thread;
}

VcpuThread::~VcpuThread() {
  if (!started_) return;
  Give(nullptr, /*end=*/true);
  pthread_join(thread_, nullptr);
}

void VcpuThread::Run(Work work) { Give(std::move(work), /*end=*/false); }

void VcpuThread::Give(Work work, bool end) {
  {
    MutexLock lock(&mutex_);
    if (work) work_ = std::move(work);
    end_ = end;
  }
  given_.Signal();
}

void* VcpuThread::ThreadMain(void* thread) {
  static_cast<VcpuThread*>(thread)->Main();
  return nullptr;
}

void VcpuThread::Main() {
  const absl::Status entered = enter_ ? enter_() : absl::OkStatus();
  Work work;
  {
    MutexLock lock(&mutex_);
    while (!work_ && !end_) given_.Wait(&mutex_);
    work.swap(work_);
  }
  if (work) work(entered);
}

}  // namespace drover
