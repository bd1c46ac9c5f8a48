#ifndef DROVER_VMM_BOOT_IMAGE_FILE_H_
#define DROVER_VMM_BOOT_IMAGE_FILE_H_

#include <array>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "vmm/core/guest_memory.h"

namespace drover {

inline constexpr char kKernelField[] = "vm.spec.boot.kernel_path";
inline constexpr char kInitrdField[] = "vm.spec.boot.initrd_path";
inline constexpr char kCommandLineField[] = "vm.spec.boot.command_line";

// INVALID_ARGUMENT with field and reason.
absl::Status BootError(absl::string_view field, absl::string_view reason,
                       absl::string_view message);
absl::Status KernelError(absl::string_view reason, absl::string_view message);

// A kernel or initrd as an open regular file (borrowed), of a size that is asked for once; a file
// that shrinks meanwhile reads as truncated. Thread-compatible.
class ImageFile {
 public:
  enum class Kind { kKernel, kInitrd };
  static constexpr size_t kHeadSize = 4096;

  // Reads the file's first kHeadSize bytes. INVALID_ARGUMENT (…_UNREADABLE, KERNEL_TRUNCATED or
  // INITRD_EMPTY) for what is no regular file or has no byte.
  static absl::StatusOr<ImageFile> Open(int fd, Kind kind);

  uint64_t size() const { return size_; }
  // The file's first bytes: kHeadSize, or all of a shorter file.
  std::span<const uint8_t> head() const;

  // Reads out.size() bytes at `offset`; KERNEL_TRUNCATED (INITRD_TRUNCATED) past the end.
  absl::Status ReadAt(uint64_t offset, std::span<uint8_t> out) const;
  // The same straight into guest memory, without a copy here. The range must lie in one region
  // (OUT_OF_RANGE).
  absl::Status ReadInto(GuestMemory& memory, uint64_t address, uint64_t offset,
                        uint64_t size) const;
  // Whether [offset, offset + size) lies in the file, for any values.
  bool Holds(uint64_t offset, uint64_t size) const {
    return offset <= size_ && size <= size_ - offset;
  }

 private:
  ImageFile(int fd, Kind kind, uint64_t size) : fd_(fd), kind_(kind), size_(size) {}
  absl::Status Truncated(uint64_t offset) const;
  absl::Status Unreadable(const absl::Status& cause) const;

  int fd_;
  Kind kind_;
  uint64_t size_;
  std::array<uint8_t, kHeadSize> head_ = {};
};

}  // namespace drover

#endif  // DROVER_VMM_BOOT_IMAGE_FILE_H_
