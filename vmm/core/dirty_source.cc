#include "vmm/core/dirty_source.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_format.h"
#include "vmm/base/mapped_region.h"
#include "vmm/base/status.h"
#include "vmm/core/vm_errors.h"

namespace drover {
namespace {

DirtyLogChoice Bitmap(DirtyLogReason reason, const DirtySourceOptions& options,
                      const BackendCapabilities& host) {
  constexpr uint32_t kEnable = 1, kInitiallySet = 2;  // KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2
  const bool manual = options.manual_protect && (host.manual_dirty_log_protect & kEnable) != 0;
  return {.kind = DirtyLogKind::kBitmap,
          .reason = reason,
          .manual_protect = manual,
          .initially_set = manual && (host.manual_dirty_log_protect & kInitiallySet) != 0};
}

DirtyLogChoice Ring(DirtyLogReason reason, const DirtySourceOptions& options,
                    const BackendCapabilities& host) {
  const uint32_t largest = host.dirty_ring_bytes;
  const uint32_t bytes =
      options.ring_bytes == 0 ? largest : std::min<uint32_t>(options.ring_bytes, largest);
  return {
      .kind = DirtyLogKind::kRing, .reason = reason, .ring_pages = bytes / kDirtyRingEntryBytes};
}

absl::Status CheckRingBytes(uint32_t bytes) {
  if (bytes == 0 || (std::has_single_bit(bytes) && bytes >= PageSize())) return absl::OkStatus();
  return Malformed(
      absl::StrFormat("a dirty ring of %u bytes: no power of two, or under a page", bytes));
}

}  // namespace

absl::StatusOr<DirtyLogChoice> ChooseDirtyLog(const DirtySourceOptions& options,
                                              const BackendCapabilities& host,
                                              const DirtyLogSituation& situation) {
  RETURN_IF_ERROR(CheckRingBytes(options.ring_bytes));
  if (!host.dirty_page_tracking) return Unsupported("dirty page tracking");
  if (situation.ring_on) return Ring(DirtyLogReason::kRingAlreadyOn, options, host);
  if (options.kind == DirtyLogWish::kBitmap) return Bitmap(DirtyLogReason::kAsked, options, host);
  const DirtyLogChoice bitmap = Bitmap(DirtyLogReason::kAutomatic, options, host);
  const bool automatic = options.kind == DirtyLogWish::kAuto;
  if (automatic && bitmap.manual_protect) return bitmap;
  if (host.dirty_ring_bytes == 0) return Bitmap(DirtyLogReason::kNoRing, options, host);
  if (situation.has_vcpus) return Bitmap(DirtyLogReason::kVcpusExist, options, host);
  return Ring(automatic ? DirtyLogReason::kAutomatic : DirtyLogReason::kAsked, options, host);
}

DirtyLogChoice RefusedRing(const DirtySourceOptions& options, const BackendCapabilities& host) {
  return Bitmap(DirtyLogReason::kRingRefused, options, host);
}

const char* NameOf(DirtyLogKind kind) { return kind == DirtyLogKind::kRing ? "ring" : "bitmap"; }

const char* NameOf(DirtyLogReason reason) {
  switch (reason) {
    case DirtyLogReason::kAsked:
      return "asked for";
    case DirtyLogReason::kAutomatic:
      return "automatic";
    case DirtyLogReason::kRingAlreadyOn:
      return "the VM's rings are on already";
    case DirtyLogReason::kNoRing:
      return "the host has no ring";
    case DirtyLogReason::kVcpusExist:
      return "vCPUs exist already";
    case DirtyLogReason::kRingRefused:
      return "the host refused the ring";
  }
  return "unknown";
}

std::ostream& operator<<(std::ostream& out, const DirtyLogChoice& choice) {
  out << NameOf(choice.kind) << " (" << NameOf(choice.reason);
  if (choice.manual_protect) out << ", manual protect";
  if (choice.initially_set) out << ", initially set";
  if (choice.ring_pages != 0) out << ", " << choice.ring_pages << " pages";
  return out << ")";
}

}  // namespace drover
