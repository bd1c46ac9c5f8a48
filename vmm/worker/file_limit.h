#ifndef DROVER_VMM_WORKER_FILE_LIMIT_H_
#define DROVER_VMM_WORKER_FILE_LIMIT_H_

#include <cstdint>

#include "absl/status/status.h"

namespace drover {

// How large a worker may make its log, the only file of its that grows: a guest that has taken the
// worker over must not fill the disk that all VMs' records are on.
inline constexpr uint64_t kMaxFileBytes = 1 << 20;

// From now on no file of this process grows beyond kMaxFileBytes, for good; writes beyond fail with
// EFBIG. Larger files (guest memory) are to be made before. Any thread.
absl::Status LimitFileSize();

}  // namespace drover

#endif  // DROVER_VMM_WORKER_FILE_LIMIT_H_
