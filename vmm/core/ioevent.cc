#include "vmm/core/ioevent.h"

#include "absl/strings/str_format.h"
#include "vmm/core/vm_errors.h"

namespace drover {
namespace {

constexpr uint64_t kPorts = 0x10000;

bool IsWidth(uint32_t width) {
  return width == 0 || width == 1 || width == 2 || width == 4 || width == 8;
}

bool Fits(uint64_t value, uint32_t width) { return width == 8 || value >> (8 * width) == 0; }

absl::Status CheckAddress(const IoAddress& address, uint32_t width) {
  if (address.address + width < address.address)
    return Wraps(absl::StrFormat("ioevent at %#x of %u bytes", address.address, width));
  if (address.space == IoAddress::Space::kPort && address.address + width > kPorts)
    return OutsideRegion(
        absl::StrFormat("ioevent at port %#x of %u bytes", address.address, width));
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckIoevent(const Fd& event, const IoAddress& address, const Datamatch& match) {
  if (!event.valid()) return Malformed("ioevent without an eventfd");
  if (!IsWidth(match.width))
    return Malformed(absl::StrFormat("ioevent of %u bytes: 0, 1, 2, 4 or 8", match.width));
  if (match.value && match.width == 0) return Malformed("ioevent with a value but of any length");
  if (match.value && !Fits(*match.value, match.width))
    return Malformed(
        absl::StrFormat("ioevent value %#x: wider than %u bytes", *match.value, match.width));
  return CheckAddress(address, match.width);
}

bool IoeventsCollide(const IoAddress& a, const Datamatch& a_match, const IoAddress& b,
                     const Datamatch& b_match) {
  if (!(a == b)) return false;
  if (a_match.width == 0 || b_match.width == 0) return true;
  if (a_match.width != b_match.width) return false;
  return !a_match.value || !b_match.value || *a_match.value == *b_match.value;
}

bool IoeventMatches(const Datamatch& match, uint32_t width, uint64_t value) {
  if (match.width == 0) return true;
  return match.width == width && (!match.value || *match.value == value);
}

}  // namespace drover
