#ifndef DROVER_SNAPSHOT_ARCHITECTURE_H_
#define DROVER_SNAPSHOT_ARCHITECTURE_H_

#include <cstdint>

namespace drover {

// Of a machine; the numbers are drover.snapshot.v1's, less 1.
enum class Architecture : uint8_t { kX86_64, kAarch64 };

constexpr const char* NameOf(Architecture architecture) {
  return architecture == Architecture::kX86_64 ? "x86_64" : "aarch64";
}

// Of this program and its guests.
inline constexpr Architecture kHostArchitecture =
#ifdef __aarch64__
    Architecture::kAarch64;
#else
    Architecture::kX86_64;
#endif

}  // namespace drover

#endif  // DROVER_SNAPSHOT_ARCHITECTURE_H_
