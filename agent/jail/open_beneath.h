#ifndef DROVER_AGENT_JAIL_OPEN_BENEATH_H_
#define DROVER_AGENT_JAIL_OPEN_BENEATH_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "vmm/base/fd.h"

namespace drover {

// The directories whose files VMs may use. A link inside one of them is followed as long as it is
// relative and stays inside (openat2(2), RESOLVE_BENEATH). Thread-compatible.
class ImageDirectories {
 public:
  // INVALID_ARGUMENT unless each is an absolute path. A directory need not exist yet.
  static absl::StatusOr<ImageDirectories> Create(std::vector<std::string> directories);

  // Opens a regular, non-empty file for reading. INVALID_ARGUMENT with the reason FILE_NOT_FOUND,
  // FILE_NOT_ALLOWED, FILE_NOT_REGULAR, FILE_NOT_READABLE or FILE_EMPTY. Never waits, whatever the
  // file is, and never opens anything but a regular file.
  absl::StatusOr<Fd> Open(const std::string& path) const;

  const std::vector<std::string>& paths() const { return paths_; }

 private:
  explicit ImageDirectories(std::vector<std::string> paths) : paths_(std::move(paths)) {}

  std::vector<std::string> paths_;  // without a slash at the end
};

}  // namespace drover

#endif  // DROVER_AGENT_JAIL_OPEN_BENEATH_H_
