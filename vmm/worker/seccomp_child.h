#ifndef DROVER_VMM_WORKER_SECCOMP_CHILD_H_
#define DROVER_VMM_WORKER_SECCOMP_CHILD_H_

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "vmm/worker/bpf_filter.h"

namespace drover {

using FilterPrograms = std::vector<absl::StatusOr<std::vector<sock_filter>>>;

// How a child ended that put `make_programs()` on itself, one after the other, and then called
// `body`, whose value is its exit code: "exit N", "signal N", or "setup" when a filter could not be
// put on. The body calls raw system calls only, so that it may run under a sanitizer.
inline std::string RunFiltered(const std::function<FilterPrograms()>& make_programs,
                               const std::function<long()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    for (const auto& program : make_programs())
      if (!program.ok() || !InstallFilter(*program).ok()) _exit(99);
    const long code = body();
    for (;;) syscall(SYS_exit_group, code);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return "fork";
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  if (WEXITSTATUS(status) == 99) return "setup";
  return "exit " + std::to_string(WEXITSTATUS(status));
}

// The same with the filter of `make_rules()`.
inline std::string RunConfined(const std::function<std::vector<SyscallRule>()>& make_rules,
                               const std::function<long()>& body) {
  return RunFiltered([&] { return FilterPrograms{CompileFilter(make_rules())}; }, body);
}

}  // namespace drover

#endif  // DROVER_VMM_WORKER_SECCOMP_CHILD_H_
