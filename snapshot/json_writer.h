#ifndef DROVER_SNAPSHOT_JSON_WRITER_H_
#define DROVER_SNAPSHOT_JSON_WRITER_H_

#include <concepts>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace drover {

// Writes JSON (RFC 8259), indented by two blanks, whatever the strings hold: what is not UTF-8
// becomes U+FFFD, control characters are escaped. Numbers above 2^53 are for programs that read
// integers whole. Thread-compatible.
class JsonWriter {
 public:
  // Objects and arrays nest; End closes the innermost. In an object each value has a key, in an
  // array none.
  void BeginObject(absl::string_view key = "") { Begin(key, '{'); }
  void BeginArray(absl::string_view key = "") { Begin(key, '['); }
  void End();

  void Text(absl::string_view key, absl::string_view value);
  void Bool(absl::string_view key, bool value);
  void Null(absl::string_view key);
  void Number(absl::string_view key, uint64_t value);

  // All of it, with a newline at the end. Everything that was begun has ended.
  const std::string& text() const { return text_; }

 private:
  void Begin(absl::string_view key, char bracket);
  void Prefix(absl::string_view key);
  void Quote(absl::string_view value);
  void NewLine();

  struct Level {
    char closes;
    bool empty = true;
  };
  std::string text_;
  std::vector<Level> levels_;
};

}  // namespace drover

#endif  // DROVER_SNAPSHOT_JSON_WRITER_H_
