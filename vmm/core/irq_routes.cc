#include "vmm/core/irq_routes.h"

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"
#include "vmm/core/vm_errors.h"

namespace drover {
namespace {

constexpr uint32_t kPicPins = 8;
constexpr uint32_t kIoapicPins = 24;

uint32_t PinsOf(IrqchipPin::Chip chip) {
  return chip == IrqchipPin::Chip::kIoapic ? kIoapicPins : kPicPins;
}

}  // namespace

IrqRoutes IrqRoutes::Pc() {
  using Chip = IrqchipPin::Chip;
  IrqRoutes routes;
  for (uint32_t gsi = 0; gsi < kIoapicPins; ++gsi) {
    routes.routes_.push_back({gsi, IrqchipPin{Chip::kIoapic, gsi}});
    if (gsi >= 2 * kPicPins) continue;
    const Chip pic = gsi < kPicPins ? Chip::kPicMaster : Chip::kPicSlave;
    routes.routes_.push_back({gsi, IrqchipPin{pic, gsi % kPicPins}});
  }
  return routes;
}

absl::Status IrqRoutes::CheckRoom(uint32_t gsi) const {
  if (gsi >= kMaxGsi) return OutsideRegion(absl::StrCat("global system interrupt ", gsi));
  if (routes_.size() >= kMaxGsi)
    return OutsideRegion(absl::StrCat("more than ", kMaxGsi, " routes"));
  return absl::OkStatus();
}

absl::Status IrqRoutes::AddPin(uint32_t gsi, IrqchipPin pin) {
  RETURN_IF_ERROR(CheckRoom(gsi));
  if (pin.pin >= PinsOf(pin.chip)) return OutsideRegion(absl::StrCat("pin ", pin.pin));
  for (const IrqRoute& route : routes_) {
    if (route.gsi != gsi) continue;
    const auto* other = std::get_if<IrqchipPin>(&route.to);
    if (other == nullptr || other->chip == pin.chip)
      return AlreadyThere(absl::StrCat("a route of interrupt ", gsi));
  }
  routes_.push_back({gsi, pin});
  return absl::OkStatus();
}

absl::Status IrqRoutes::AddMsi(uint32_t gsi, MsiMessage message) {
  RETURN_IF_ERROR(CheckRoom(gsi));
  if (std::ranges::find(routes_, gsi, &IrqRoute::gsi) != routes_.end())
    return AlreadyThere(absl::StrCat("a route of interrupt ", gsi));
  routes_.push_back({gsi, message});
  return absl::OkStatus();
}

absl::Status IrqRoutes::SetMsi(uint32_t gsi, MsiMessage message) {
  const auto found = std::ranges::find(routes_, gsi, &IrqRoute::gsi);
  if (found == routes_.end()) return AddMsi(gsi, message);
  if (!std::holds_alternative<MsiMessage>(found->to))
    return AlreadyThere(absl::StrCat("a pin of interrupt ", gsi));
  found->to = message;
  return absl::OkStatus();
}

absl::Status IrqRoutes::Remove(uint32_t gsi) {
  const auto of_gsi = [gsi](const IrqRoute& route) { return route.gsi == gsi; };
  if (std::erase_if(routes_, of_gsi) != 0) return absl::OkStatus();
  return PosixStatus(ENOENT, "route", absl::StrCat("of interrupt ", gsi));
}

bool IrqRoutes::has_pins() const {
  return std::ranges::any_of(
      routes_, [](const IrqRoute& r) { return std::holds_alternative<IrqchipPin>(r.to); });
}

}  // namespace drover
