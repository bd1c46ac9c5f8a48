#include <cstddef>
#include <cstdint>

#include "vmm/worker/control_proto.h"

// Whatever the agent's end of the control socket or the launch channel says, parsing ends in a
// value or an error.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto request = drover::ParseControlRequest(bytes);
  if (request.ok() && request->sequence == 0) __builtin_trap();
  const auto launch = drover::ParseLaunchHeader(bytes);
  if (launch.ok() && launch->instance_id.empty()) __builtin_trap();
  return 0;
}
