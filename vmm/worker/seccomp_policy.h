#ifndef DROVER_VMM_WORKER_SECCOMP_POLICY_H_
#define DROVER_VMM_WORKER_SECCOMP_POLICY_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/worker/bpf_filter.h"

namespace drover {

// The kinds of thread in a worker, each with what it may call.
enum class ThreadKind {
  // The one thread, from the time it waits for its launch until the machine is built: what the
  // others may, and what building takes (VM, vCPUs, guest memory, threads).
  kSetup,
  // The event loop of a built machine: sockets that it has, no new threads, no new files.
  kMain,
  // A vCPU: KVM_RUN, interrupts, the loop's eventfd, the log.
  kVcpu,
};

// The allow-list of `kind`. A filter stays below those put on later, so kSetup contains the rest.
std::vector<SyscallRule> SeccompRules(ThreadKind kind);

// A policy, compiled once and then put on any number of threads. Thread-compatible.
class SeccompPolicy {
 public:
  static absl::StatusOr<SeccompPolicy> Compile(ThreadKind kind);
  // `kind`'s, for a thread on which `outer`'s is already: only with that it is complete.
  static absl::StatusOr<SeccompPolicy> CompileWithin(ThreadKind kind, ThreadKind outer);
  // Confines the calling thread for good. In a build with a sanitizer, whose runtime calls what it
  // likes, it only logs that the thread stays unconfined.
  absl::Status Enter() const;

 private:
  explicit SeccompPolicy(std::vector<sock_filter> program) : program_(std::move(program)) {}
  std::vector<sock_filter> program_;
};

}  // namespace drover

#endif  // DROVER_VMM_WORKER_SECCOMP_POLICY_H_
