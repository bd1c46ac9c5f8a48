#ifndef DROVER_AGENT_HELPER_RUN_HELPER_H_
#define DROVER_AGENT_HELPER_RUN_HELPER_H_

namespace drover {

// drover-helper: serves the agent on descriptor 3 until the agent ends, then ends its spares and
// returns the exit status. Launched workers live on.
int RunHelper(int argc, char** argv);

}  // namespace drover

#endif  // DROVER_AGENT_HELPER_RUN_HELPER_H_
