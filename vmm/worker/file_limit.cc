#include "vmm/worker/file_limit.h"

#include <sys/resource.h>

#include <cerrno>

#include "vmm/base/status.h"

namespace drover {

absl::Status LimitFileSize() {
  const struct rlimit limit = {.rlim_cur = kMaxFileBytes, .rlim_max = kMaxFileBytes};
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return PosixStatus(errno, "setrlimit", "FSIZE");
  return absl::OkStatus();
}

}  // namespace drover
