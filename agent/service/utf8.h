#ifndef DROVER_AGENT_SERVICE_UTF8_H_
#define DROVER_AGENT_SERVICE_UTF8_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace drover {

// `text` as valid UTF-8 (RFC 3629) of at most `limit` bytes: each bad byte becomes '?', a cut end
// "...". `limit` is at least 3.
std::string CleanUtf8(absl::string_view text, size_t limit);

}  // namespace drover

#endif  // DROVER_AGENT_SERVICE_UTF8_H_
