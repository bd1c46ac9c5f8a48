#ifndef DROVER_VMM_BOOT_BYTES_H_
#define DROVER_VMM_BOOT_BYTES_H_

#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "absl/strings/string_view.h"
#include "vmm/base/status.h"

namespace drover {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "images and tables are little-endian");

// The T at `offset`, unaligned. The caller has checked the bounds.
template <typename T>
T LoadAt(std::span<const uint8_t> bytes, size_t offset) {
  static_assert(std::is_trivially_copyable_v<T>);
  DROVER_CHECK(offset <= bytes.size() && sizeof(T) <= bytes.size() - offset);
  T value;
  memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

template <typename T>
void StoreAt(std::span<uint8_t> bytes, size_t offset, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  DROVER_CHECK(offset <= bytes.size() && sizeof(T) <= bytes.size() - offset);
  memcpy(bytes.data() + offset, &value, sizeof(T));
}

inline void Append(std::vector<uint8_t>& out, absl::string_view bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}
inline void Append(std::vector<uint8_t>& out, const std::vector<uint8_t>& bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

}  // namespace drover

#endif  // DROVER_VMM_BOOT_BYTES_H_
