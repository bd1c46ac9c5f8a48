#include "snapshot/json_writer.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace drover {
namespace {

uint8_t At(absl::string_view text, size_t i) {
  return i < text.size() ? static_cast<uint8_t>(text[i]) : 0;
}

bool Continues(uint8_t byte) { return (byte & 0xC0) == 0x80; }

// Bytes of the UTF-8 character that `text` begins with (RFC 3629 §4); 0 where there is none.
size_t CharacterBytes(absl::string_view text) {
  const uint8_t a = At(text, 0), b = At(text, 1);
  if (a < 0x80) return 1;
  if (a >= 0xC2 && a <= 0xDF) return Continues(b) ? 2 : 0;
  const uint8_t least = a == 0xE0 ? 0xA0 : a == 0xF0 ? 0x90 : 0x80;
  const uint8_t most = a == 0xED ? 0x9F : a == 0xF4 ? 0x8F : 0xBF;
  if (b < least || b > most || !Continues(At(text, 2))) return 0;
  if (a >= 0xE0 && a <= 0xEF) return 3;
  return a >= 0xF0 && a <= 0xF4 && Continues(At(text, 3)) ? 4 : 0;
}

bool NeedsEscape(char c) {
  return static_cast<uint8_t>(c) < 0x20 || c == '"' || c == '\\' || c == 0x7F;
}

}  // namespace

void JsonWriter::NewLine() { absl::StrAppend(&text_, "\n", std::string(2 * levels_.size(), ' ')); }

void JsonWriter::Quote(absl::string_view value) {
  text_ += '"';
  while (!value.empty()) {
    const size_t bytes = CharacterBytes(value);
    if (bytes == 0)
      text_ += "\\ufffd";
    else if (NeedsEscape(value[0]))
      absl::StrAppendFormat(&text_, "\\u%04x", value[0]);
    else
      absl::StrAppend(&text_, value.substr(0, bytes));
    value.remove_prefix(bytes == 0 ? 1 : bytes);
  }
  text_ += '"';
}

void JsonWriter::Prefix(absl::string_view key) {
  if (levels_.empty()) return;
  Level& level = levels_.back();
  if (!level.empty) text_ += ',';
  level.empty = false;
  NewLine();
  if (level.closes != '}') return;
  Quote(key);
  text_ += ": ";
}

void JsonWriter::Begin(absl::string_view key, char bracket) {
  Prefix(key);
  text_ += bracket;
  levels_.push_back({bracket == '{' ? '}' : ']'});
}

void JsonWriter::End() {
  const Level level = levels_.back();
  levels_.pop_back();
  if (!level.empty) NewLine();
  text_ += level.closes;
  if (levels_.empty()) text_ += '\n';
}

void JsonWriter::Text(absl::string_view key, absl::string_view value) {
  Prefix(key);
  Quote(value);
}

void JsonWriter::Bool(absl::string_view key, bool value) {
  Prefix(key);
  text_ += value ? "true" : "false";
}

void JsonWriter::Null(absl::string_view key) {
  Prefix(key);
  text_ += "null";
}

void JsonWriter::Number(absl::string_view key, uint64_t value) {
  Prefix(key);
  absl::StrAppend(&text_, value);
}

}  // namespace drover
