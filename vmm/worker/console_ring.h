#ifndef DROVER_VMM_WORKER_CONSOLE_RING_H_
#define DROVER_VMM_WORKER_CONSOLE_RING_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

namespace drover {

// The last kSize bytes of a stream, addressed by their position in the whole stream.
// Thread-compatible.
class ConsoleRing {
 public:
  static constexpr size_t kSize = 64 * 1024;

  // Not initialized on purpose: pages that were never written stay unbacked.
  ConsoleRing() : bytes_(new uint8_t[kSize]) {}

  // Bytes written so far, and the position of the oldest that is kept.
  uint64_t total() const { return total_; }
  uint64_t oldest() const { return total_ - std::min<uint64_t>(total_, kSize); }

  void Append(std::span<const uint8_t> data) {
    if (data.size() > kSize) {
      total_ += data.size() - kSize;
      data = data.last(kSize);
    }
    const size_t at = total_ % kSize;
    const size_t first = std::min(data.size(), kSize - at);
    memcpy(bytes_.get() + at, data.data(), first);
    if (first < data.size()) memcpy(bytes_.get(), data.data() + first, data.size() - first);
    total_ += data.size();
  }

  // Copies what is there from `position` (oldest() to total()) on; how many bytes.
  size_t Copy(uint64_t position, std::span<uint8_t> out) const {
    const size_t n = std::min<uint64_t>(out.size(), total_ - position);
    const size_t at = position % kSize;
    const size_t first = std::min(n, kSize - at);
    memcpy(out.data(), bytes_.get() + at, first);
    if (first < n) memcpy(out.data() + first, bytes_.get(), n - first);
    return n;
  }

 private:
  std::unique_ptr<uint8_t[]> bytes_;
  uint64_t total_ = 0;
};

}  // namespace drover

#endif  // DROVER_VMM_WORKER_CONSOLE_RING_H_
