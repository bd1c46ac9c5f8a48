#ifndef DROVER_AGENT_SERVICE_CONNECTION_LIMIT_H_
#define DROVER_AGENT_SERVICE_CONNECTION_LIMIT_H_

#include <sys/types.h>

#include <utility>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/mutex.h"

namespace drover {

// How many connections may be open at once. Whoever they are handed on to closes them unseen, so
// each is known by its descriptor and inode, and looked after when the limit is reached.
// Thread-safe.
class ConnectionLimit {
 public:
  explicit ConnectionLimit(size_t most) : most_(most) {}

  // Counts the connection; false, and it does not count, when there are as many as may be.
  bool Admit(const Fd& connection);
  size_t most() const { return most_; }

 private:
  const size_t most_;
  Mutex mutex_;
  std::vector<std::pair<int, ino_t>> open_ ABSL_GUARDED_BY(mutex_);  // some of them closed since
};

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_CONNECTION_LIMIT_H_
