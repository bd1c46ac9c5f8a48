#include "e2e/guest/arguments.h"

#include "e2e/guest/console.h"

namespace guest {
namespace {

int DigitValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return 99;
}

int UnitShift(char c) {
  switch (c) {
    case 'K':
      return 10;
    case 'M':
      return 20;
    case 'G':
      return 30;
    default:
      return 0;
  }
}

// Behind `key=`, or nullptr if the word is not this option.
const char* ValueOf(const char* word, const char* key) {
  if (!HasPrefix(word, key)) return nullptr;
  while (*key) word++, key++;
  return *word == '=' ? word + 1 : nullptr;
}

bool Assign(const char* verb, const char* word, Option* options, int count) {
  for (int i = 0; i < count; i++) {
    const char* value = ValueOf(word, options[i].key);
    if (!value) continue;
    if (ParseNumber(value, &options[i].value)) return true;
    Print("error %s %s is not a number: %s\n", verb, options[i].key, value);
    return false;
  }
  Print("error %s unknown argument: %s\n", verb, word);
  return false;
}

}  // namespace

bool Equal(const char* a, const char* b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

bool HasPrefix(const char* text, const char* prefix) {
  while (*prefix && *text == *prefix) text++, prefix++;
  return *prefix == 0;
}

bool ParseNumber(const char* text, uint64_t* value) {
  const bool hexadecimal = HasPrefix(text, "0x");
  const int radix = hexadecimal ? 16 : 10;
  if (hexadecimal) text += 2;
  const char* start = text;
  uint64_t n = 0;
  for (; DigitValue(*text) < radix; text++) {
    if (n >> 60) return false;
    n = n * radix + DigitValue(*text);
  }
  if (text == start) return false;
  if (int shift = UnitShift(*text)) {
    if (n >> (63 - shift)) return false;
    n <<= shift;
    text++;
  }
  if (*text) return false;
  *value = n;
  return true;
}

void Arguments::SkipSpaces() const {
  while (*rest_ == ' ') rest_++;
}

char* Arguments::Next() {
  SkipSpaces();
  char* word = rest_;
  while (*rest_ && *rest_ != ' ') rest_++;
  if (*rest_) *rest_++ = 0;
  return word;
}

bool Arguments::Take(const char* word) {
  SkipSpaces();
  if (!HasPrefix(rest_, word)) return false;
  char* end = rest_;
  while (*word) end++, word++;
  if (*end != 0 && *end != ' ') return false;
  rest_ = end;
  return true;
}

const char* Arguments::Rest() const {
  SkipSpaces();
  return rest_;
}

bool Arguments::Read(const char* verb, Option* options, int count) {
  for (char* word = Next(); *word; word = Next()) {
    if (!Assign(verb, word, options, count)) return false;
  }
  return true;
}

}  // namespace guest
