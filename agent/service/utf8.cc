#include "agent/service/utf8.h"

#include <cstdint>

namespace drover {
namespace {

// The length of the sequence that begins with `lead`, 0 for a byte that begins none.
size_t SequenceLength(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return 2;
  if ((lead & 0xf0) == 0xe0) return 3;
  if (lead >= 0xf0 && lead <= 0xf4) return 4;
  return 0;
}

// Refuses overlong forms, surrogates and what is beyond U+10FFFF (RFC 3629 section 4).
bool SecondByteAllowed(unsigned char lead, unsigned char second) {
  if (lead == 0xe0) return second >= 0xa0;
  if (lead == 0xed) return second <= 0x9f;
  if (lead == 0xf0) return second >= 0x90;
  if (lead == 0xf4) return second <= 0x8f;
  return true;
}

// The length of the valid sequence at the head of `text`, 0 where there is none.
size_t ValidPrefix(absl::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t length = SequenceLength(lead);
  if (length == 0 || length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return 0;
  if (length > 1 && !SecondByteAllowed(lead, static_cast<unsigned char>(text[1]))) return 0;
  return length;
}

}  // namespace

std::string CleanUtf8(absl::string_view text, size_t limit) {
  std::string out;
  size_t cut = 0;  // the longest prefix that leaves room for "..."
  while (!text.empty()) {
    const size_t length = ValidPrefix(text);
    out.append(length == 0 ? "?" : text.data(), length == 0 ? 1 : length);
    text.remove_prefix(length == 0 ? 1 : length);
    if (out.size() + 3 <= limit) cut = out.size();
    if (out.size() > limit) return out.substr(0, cut) + "...";
  }
  return out;
}

}  // namespace drover
