#include "vmm/core/balloon.h"

#include "absl/strings/str_format.h"
#include "vmm/core/vm_errors.h"

namespace drover {

absl::Status ApplyBalloonEvent(const BalloonEvent& event, GuestMemory* memory) {
  const auto* inflate = std::get_if<BalloonInflate>(&event);
  if (inflate == nullptr) return absl::OkStatus();
  if (inflate->address + inflate->size < inflate->address)
    return Wraps(absl::StrFormat("balloon at %#x of %#x bytes", inflate->address, inflate->size));
  return memory->Discard(inflate->address, inflate->size);
}

}  // namespace drover
