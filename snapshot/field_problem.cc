#include "snapshot/field_problem.h"

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"

namespace drover {

absl::Status StatusOf(const FieldProblems& problems) {
  if (problems.empty()) return absl::OkStatus();
  const FieldProblem& first = problems.list().front();
  std::string message = absl::StrCat("snapshot's state: ", first.field, ": ", first.found,
                                     "; right would be: ", first.right);
  if (problems.count() > 1) absl::StrAppend(&message, " (and ", problems.count() - 1, " more)");
  return WithReason(WithField(absl::InvalidArgumentError(message), first.field),
                    "SNAPSHOT_STATE_MALFORMED");
}

}  // namespace drover
