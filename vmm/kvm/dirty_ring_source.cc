#include "vmm/kvm/dirty_ring_source.h"

#include <utility>
#include <vector>

#include "vmm/base/log.h"
#include "vmm/kvm/dirty_bitmap_source.h"
#include "vmm/kvm/kvm_ioctl.h"

namespace drover {

DirtyRingSource::DirtyRingSource(std::shared_ptr<KvmMachine> machine, const DirtyLogChoice& choice)
    : machine_(std::move(machine)), choice_(choice) {}

DirtyRingSource::~DirtyRingSource() { machine_->slots.CloseDirtyLog(); }

absl::Status DirtyRingSource::Prepare(DirtyStart) { return absl::OkStatus(); }

absl::Status DirtyRingSource::Harvest(std::span<const Slot> slots, DirtyClear) {
  std::vector<const Slot*> by_slot;
  for (const Slot& slot : slots) {
    if (slot.mapping.slot >= by_slot.size()) by_slot.resize(slot.mapping.slot + 1);
    by_slot[slot.mapping.slot] = &slot;
  }
  // An entry may be of a slot that is gone, or of what was in the slot before.
  return machine_->rings.Drain(machine_->vm.get(), [&](uint32_t number, uint64_t page) {
    const Slot* const slot = number < by_slot.size() ? by_slot[number] : nullptr;
    if (slot == nullptr || page >= slot->mapping.range.size / 4096) return;
    slot->words[page / 64] |= uint64_t{1} << page % 64;
    *slot->any = true;
  });
}

absl::Status DirtyRingSource::Rearm(const SlotMapping&, uint64_t, std::span<const uint64_t>) {
  return absl::OkStatus();  // the harvest did
}

namespace {

// Turns the rings on if the choice is one, or falls back.
absl::StatusOr<DirtyLogChoice> Choose(KvmMachine& machine, const DirtySourceOptions& options) {
  const BackendCapabilities& host = machine.host->capabilities();
  const uint32_t ring_pages = machine.rings.pages();
  ASSIGN_OR_RETURN(DirtyLogChoice choice, ChooseDirtyLog(options, host,
                                                         {.ring_on = ring_pages != 0,
                                                          .has_vcpus = machine.rings.has_vcpus()}));
  if (choice.kind == DirtyLogKind::kBitmap) return choice;
  if (ring_pages != 0) {
    choice.ring_pages = ring_pages;
    return choice;
  }
  const absl::Status status =
      machine.rings.TurnOn(machine.vm.get(), choice.ring_pages * kDirtyRingEntryBytes);
  if (status.ok()) return choice;
  Log(LogLevel::kInfo, "the host refused the dirty ring", {{"error", status.ToString()}});
  return RefusedRing(options, host);
}

}  // namespace

absl::StatusOr<std::unique_ptr<DirtySource>> OpenKvmDirtySource(std::shared_ptr<KvmMachine> machine,
                                                                const DirtySourceOptions& options) {
  RETURN_IF_ERROR(machine->slots.OpenDirtyLog());
  const absl::StatusOr<DirtyLogChoice> choice = Choose(*machine, options);
  if (!choice.ok()) {
    machine->slots.CloseDirtyLog();
    return choice.status();
  }
  if (choice->kind == DirtyLogKind::kRing)
    return std::make_unique<DirtyRingSource>(std::move(machine), *choice);
  return std::make_unique<DirtyBitmapSource>(std::move(machine), *choice);
}

}  // namespace drover
