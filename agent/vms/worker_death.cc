#include "agent/vms/worker_death.h"

#include <signal.h>
#include <string.h>

#include "absl/strings/str_cat.h"

namespace drover {
namespace {

std::string SignalName(int number) {
  const char* name = sigabbrev_np(number);
  return name == nullptr ? absl::StrCat("signal ", number) : absl::StrCat("SIG", name);
}

}  // namespace

WorkerDeath DescribeDeath(const std::optional<ProcessEnd>& end) {
  if (!end.has_value())
    return {"WORKER_DIED",
            "the worker ended without last words: killed, out of memory, or stopped by its jail; "
            "how is not known, since an earlier agent launched it: see the kernel's log"};
  if (end->signal == SIGSYS)
    return {"JAIL_VIOLATION",
            "the kernel ended the worker (SIGSYS) for a system call that its jail forbids: a guest "
            "may have broken into it; the kernel's audit log (type=1326) names the call"};
  if (end->signal == SIGKILL)
    return {"WORKER_DIED",
            "the worker was killed (SIGKILL), by somebody or out of memory; see the kernel's log"};
  if (end->signal != 0)
    return {"WORKER_DIED", absl::StrCat("the worker crashed (", SignalName(end->signal), ")")};
  return {"WORKER_DIED", absl::StrCat("the worker exited with status ", end->status,
                                      " and without last words; see its log")};
}

}  // namespace drover
