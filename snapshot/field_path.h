#ifndef DROVER_SNAPSHOT_FIELD_PATH_H_
#define DROVER_SNAPSHOT_FIELD_PATH_H_

#include <concepts>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "snapshot/field_problem.h"

namespace drover {

// Where a converter is in a message, such as "vcpu_states[0].x86". Thread-compatible.
class FieldPath {
 public:
  // Enters a field for as long as it lives.
  class [[nodiscard]] Scope {
   public:
    Scope(FieldPath* path, absl::string_view name) : path_(path), length_(path->text_.size()) {
      absl::StrAppend(&path->text_, length_ == 0 ? "" : ".", name);
    }
    Scope(FieldPath* path, absl::string_view name, size_t index) : Scope(path, name) {
      absl::StrAppend(&path->text_, "[", index, "]");
    }
    ~Scope() { path_->text_.resize(length_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    FieldPath* const path_;
    const size_t length_;
  };

  const std::string& text() const { return text_; }
  std::string Of(absl::string_view name) const {
    return absl::StrCat(text_, text_.empty() ? "" : ".", name);
  }

 private:
  std::string text_;
};

// Takes a message's fields, and notes each that is out of range. Thread-compatible.
class FieldReader {
 public:
  FieldPath* path() { return &path_; }
  const FieldProblems& problems() const { return problems_; }

  void Problem(absl::string_view name, std::string found, std::string right) {
    problems_.Add({path_.Of(name), std::move(found), std::move(right)});
  }
  // Returns `ok`, and notes a problem where it is false.
  bool Check(bool ok, absl::string_view name, uint64_t found, absl::string_view right) {
    if (!ok) Problem(name, absl::StrCat(found), std::string(right));
    return ok;
  }

  // A number from `least` to `most`.
  template <typename T>
  T Number(absl::string_view name, uint64_t value, uint64_t most = std::numeric_limits<T>::max(),
           uint64_t least = 0) {
    if (value > most || value < least)
      Problem(name, absl::StrFormat("%u (%#x)", value, value),
              absl::StrFormat("%u to %u", least, most));
    return static_cast<T>(value);
  }

  // Text of at most `most` bytes, printable (UTF-8 is not checked), not empty if `needed`.
  std::string Text(absl::string_view name, const std::string& value, size_t most,
                   bool needed = false);
  // As Text, of letters, digits and `others`.
  std::string Name(absl::string_view name, const std::string& value, size_t most,
                   absl::string_view others);

 private:
  FieldPath path_;
  FieldProblems problems_;
};

// Fills messages, and gives each the fields of a newer version that it had. Thread-compatible.
class FieldWriter {
 public:
  explicit FieldWriter(const std::map<std::string, std::string>& unknown) : unknown_(unknown) {}
  FieldPath* path() { return &path_; }

  // Once in each message, in any order with its own fields.
  template <typename Proto>
  void RestoreUnknown(Proto* proto) const {
    if (unknown_.empty()) return;
    const auto found = unknown_.find(path_.text());
    if (found != unknown_.end()) (void)proto->MergeFromString(found->second);
  }

 private:
  const std::map<std::string, std::string>& unknown_;
  FieldPath path_;
};

}  // namespace drover

#endif  // DROVER_SNAPSHOT_FIELD_PATH_H_
