#ifndef DROVER_VMM_WORKER_COMMAND_LINE_H_
#define DROVER_VMM_WORKER_COMMAND_LINE_H_

#include <span>

namespace drover {

// The whole of drover-vmm: --worker, --probe, --describe-snapshot, --version, --help. Returns the
// exit code: 0, 1 for a failure (said on standard error), 2 for a wrong command line, and the
// verdicts of snapshot/describe.h.
int RunDroverVmm(std::span<char* const> arguments);

}  // namespace drover

#endif  // DROVER_VMM_WORKER_COMMAND_LINE_H_
