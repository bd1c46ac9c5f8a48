#ifndef DROVER_VMM_BASE_STATUS_H_
#define DROVER_VMM_BASE_STATUS_H_

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace drover {

// The Status of a failed system call: its canonical code for `error`, a message "CALL DETAIL: text
// (EXXX)", and the errno itself as payload (PosixErrno). `error` must not be 0.
absl::Status PosixStatus(int error, absl::string_view call, absl::string_view detail);

// The errno that PosixStatus put into `status`, through any Annotate; nullopt where there is none.
std::optional<int> PosixErrno(const absl::Status& status);

// The status with `error` as its PosixErrno.
absl::Status WithPosixErrno(absl::Status status, int error);

// The same status with "prefix: " before its message. OK stays OK.
absl::Status Annotate(const absl::Status& status, absl::string_view prefix);

// The status with a stable reason (UPPER_SNAKE_CASE, for ErrorInfo) and with the path of the API
// field at fault, such as "spec.boot.kernel_path". OK stays OK; the first reason and field set are
// kept, so that the place nearest to the cause wins. ReasonOf and FieldOf give them back, "" where
// there is none.
absl::Status WithReason(absl::Status status, absl::string_view reason);
absl::Status WithField(absl::Status status, absl::string_view field);
std::string ReasonOf(const absl::Status& status);
std::string FieldOf(const absl::Status& status);

// The same for the name of the host's capability that is missing (vmm/core/capabilities.h).
absl::Status WithCapability(absl::Status status, absl::string_view capability);
std::string CapabilityOf(const absl::Status& status);

namespace internal {
inline const absl::Status& ToStatus(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& ToStatus(const absl::StatusOr<T>& value) {
  return value.status();
}
}  // namespace internal

}  // namespace drover

// Returns from the function when `expr` (Status or StatusOr) is not OK.
#define RETURN_IF_ERROR(expr)                             \
  do {                                                    \
    if (auto drover_status = (expr); !drover_status.ok()) \
      return ::drover::internal::ToStatus(drover_status); \
  } while (false)

// Declares or assigns `lhs` from the StatusOr `expr`, or returns its error.
#define ASSIGN_OR_RETURN(lhs, expr) \
  DROVER_ASSIGN_OR_RETURN(DROVER_CONCAT(drover_or_, __LINE__), lhs, expr)
#define DROVER_ASSIGN_OR_RETURN(tmp, lhs, expr) \
  auto tmp = (expr);                            \
  if (!tmp.ok()) return tmp.status();           \
  lhs = *std::move(tmp)
#define DROVER_CONCAT(a, b) DROVER_CONCAT2(a, b)
#define DROVER_CONCAT2(a, b) a##b

// Ends the process with a message: for broken invariants of our own, never for guest, file or wire
// bytes.
#define DROVER_CHECK(condition) \
  ((condition) ? (void)0 : ::drover::CheckFailed(#condition, __FILE__, __LINE__))

namespace drover {
[[noreturn]] void CheckFailed(const char* condition, const char* file, int line);
}  // namespace drover

#endif  // DROVER_VMM_BASE_STATUS_H_
