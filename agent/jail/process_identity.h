#ifndef DROVER_AGENT_JAIL_PROCESS_IDENTITY_H_
#define DROVER_AGENT_JAIL_PROCESS_IDENTITY_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "vmm/base/fd.h"

namespace drover {

// A pid is reused; a pid with its start time, within one boot, is not.

// Field 22 of the text of /proc/PID/stat (proc(5)): clock ticks between boot and the process's
// start. The process chooses its own name (field 2), which may hold spaces and parentheses.
absl::StatusOr<uint64_t> ParseStartTicks(absl::string_view stat);

// NOT_FOUND when there is no such process.
absl::StatusOr<uint64_t> ReadStartTicks(pid_t pid);

// The id that the kernel drew at this boot.
absl::StatusOr<std::string> ReadBootId();

// A pidfd of `pid` if that is the process which started at `start_ticks` and if it has not ended;
// NOT_FOUND otherwise. The caller has compared the boot id.
absl::StatusOr<Fd> OpenProcess(pid_t pid, uint64_t start_ticks);

// Whether the process behind a pidfd has ended (it may be a zombie yet).
bool HasEnded(int pidfd);

// SIGKILL; OK when the process has ended already.
absl::Status KillProcess(int pidfd);

}  // namespace drover

#endif  // DROVER_AGENT_JAIL_PROCESS_IDENTITY_H_
