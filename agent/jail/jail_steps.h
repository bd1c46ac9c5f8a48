#ifndef DROVER_AGENT_JAIL_JAIL_STEPS_H_
#define DROVER_AGENT_JAIL_JAIL_STEPS_H_

#include <cstddef>
#include <cstdint>

namespace drover {

// All that the child needs between clone and exec, prepared before the clone: it has no heap and no
// locks there.
struct JailPlan {
  uint64_t namespaces = 0;
  uint32_t uid = 0;
  int status = -1;  // SOCK_SEQPACKET: a byte from the parent to go on, a JailFailure to it
  int parent_status =
      -1;  // the parent's end, which the child closes: its end of file must reach it
  int executable = -1;
  int descriptors[16] = {};
  int descriptor_count = 0;
  int joins[8] = {};
  int join_count = 0;
  char root_options[80] = {};  // mount(2) data of the jail's root
  char* const* argv = nullptr;
};

// What the child reports when a step fails.
struct JailFailure {
  uint32_t step;
  int32_t error;
};

// Runs every step; returns only by failing, after the report.
[[noreturn]] void RunJailSteps(JailPlan* plan);

// What a step does, in words, for an error message.
const char* JailStepName(uint32_t step);

}  // namespace drover

#endif  // DROVER_AGENT_JAIL_JAIL_STEPS_H_
