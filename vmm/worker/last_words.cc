#include "vmm/worker/last_words.h"

#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"
#include "vmm/worker/control_proto.h"

namespace drover {

absl::Status LastWords::Write(const MachineStatus& machine) {
  if (!file_.valid()) return absl::OkStatus();
  const Fd file = std::move(file_);
  const std::string bytes = SerializeLastWords(instance_id_, machine);
  ssize_t n;
  do {
    n = pwrite(file.get(), bytes.data(), bytes.size(), 0);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return PosixStatus(errno, "pwrite", "last words");
  if (static_cast<size_t>(n) != bytes.size())
    return absl::DataLossError(
        absl::StrCat("last words: ", n, " of ", bytes.size(), " bytes were written"));
  return absl::OkStatus();
}

}  // namespace drover
