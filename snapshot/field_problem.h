#ifndef DROVER_SNAPSHOT_FIELD_PROBLEM_H_
#define DROVER_SNAPSHOT_FIELD_PROBLEM_H_

#include <cstddef>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace drover {

// What is wrong with one field of a snapshot's state.
struct FieldProblem {
  std::string field;  // such as "vcpu_states[1].x86.sregs.cs.type"
  std::string found;
  std::string right;  // what would be
  bool operator==(const FieldProblem&) const = default;
};
inline std::ostream& operator<<(std::ostream& out, const FieldProblem& problem) {
  return out << problem.field << ": " << problem.found << "; right: " << problem.right;
}

// All that are wrong, as far as they are kept.
class FieldProblems {
 public:
  static constexpr size_t kMost = 64;

  void Add(FieldProblem problem) {
    ++count_;
    if (list_.size() < kMost) list_.push_back(std::move(problem));
  }
  void Add(const FieldProblems& more) {
    for (const FieldProblem& problem : more.list_) Add(problem);
    count_ += more.count_ - more.list_.size();
  }
  bool empty() const { return count_ == 0; }
  size_t count() const { return count_; }                          // all
  const std::vector<FieldProblem>& list() const { return list_; }  // the first kMost

 private:
  std::vector<FieldProblem> list_;
  size_t count_ = 0;
};

// OK without problems; INVALID_ARGUMENT with the first's field and how many more there are, reason
// SNAPSHOT_STATE_MALFORMED.
absl::Status StatusOf(const FieldProblems& problems);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_FIELD_PROBLEM_H_
