// Splits a command line into its verb, words and key=value options, and says what is wrong with it.
#ifndef E2E_GUEST_ARGUMENTS_H_
#define E2E_GUEST_ARGUMENTS_H_

#include <stdint.h>

namespace guest {

bool Equal(const char* a, const char* b);

// True if `text` begins with `prefix`.
bool HasPrefix(const char* text, const char* prefix);

// Decimal or 0x hexadecimal, with an optional K, M or G (powers of 1024). The whole text must be a
// number.
bool ParseNumber(const char* text, uint64_t* value);

// An option that a command knows, with its default.
struct Option {
  const char* key;
  uint64_t value;
};

// The rest of a command behind its verb; cuts the buffer that it was given into words.
class Arguments {
 public:
  explicit Arguments(char* rest) : rest_(rest) {}

  // The next word, "" at the end.
  char* Next();

  // If the next word is `word`, takes it.
  bool Take(const char* word);

  // Everything not yet taken.
  const char* Rest() const;

  // Takes all remaining words as key=value of `options`. On a bad one prints `error verb ...`,
  // returns false.
  template <int kCount>
  bool Read(const char* verb, Option (&options)[kCount]) {
    return Read(verb, options, kCount);
  }
  bool Read(const char* verb, Option* options, int count);

 private:
  void SkipSpaces() const;

  mutable char* rest_;
};

}  // namespace guest

#endif  // E2E_GUEST_ARGUMENTS_H_
