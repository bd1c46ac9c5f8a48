#ifndef DROVER_VMM_WORKER_BPF_FILTER_H_
#define DROVER_VMM_WORKER_BPF_FILTER_H_

#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace drover {

// What one argument of a system call must be. The whole 64 bits count.
struct ArgumentRule {
  enum class Kind {
    kEquals,   // == one of values
    kNoBits,   // & values[0] == 0
    kHasBits,  // & values[0] == values[0]
  };
  unsigned index = 0;  // 0 to 5
  Kind kind = Kind::kEquals;
  std::vector<uint64_t> values;
  bool operator==(const ArgumentRule&) const = default;
};

// A system call that the filter knows: allowed when each of `arguments` holds; otherwise the
// filter's default. With `error`, it fails with that errno instead, whatever its arguments. A call
// may have several rules: one that holds is enough.
struct SyscallRule {
  long number = 0;
  std::vector<ArgumentRule> arguments = {};
  int error = 0;
  bool operator==(const SyscallRule&) const = default;
};

// Compiles rules to a classic BPF program for seccomp(2): the native architecture only, no x32
// numbers, SECCOMP_RET_KILL_PROCESS for everything that no rule allows. The rules of one call are
// tested in their order: put the frequent ones first. INVALID_ARGUMENT for a rule that is
// malformed; OUT_OF_RANGE when the program exceeds the kernel's limit.
absl::StatusOr<std::vector<sock_filter>> CompileFilter(std::span<const SyscallRule> rules);

// The program for a thread that the filter of `outer` confines already: both together allow what
// the filters of `rules` and `outer` would together. It tests only what the two differ in, and so
// is put on in a fraction of the time. Useless without the other. Errors as CompileFilter's.
absl::StatusOr<std::vector<sock_filter>> CompileNarrowing(std::span<const SyscallRule> rules,
                                                          std::span<const SyscallRule> outer);

// Puts the program on the calling thread, for good, and on the threads that it makes later; sets
// no_new_privs first. FAILED_PRECONDITION and friends from prctl(2) and seccomp(2).
absl::Status InstallFilter(std::span<const sock_filter> program);

}  // namespace drover

#endif  // DROVER_VMM_WORKER_BPF_FILTER_H_
