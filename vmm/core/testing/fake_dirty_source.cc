#include "vmm/core/testing/fake_dirty_source.h"

#include <utility>

#include "vmm/base/status.h"
#include "vmm/core/testing/fake_hypervisor.h"

namespace drover {
namespace {

class FakeDirtySource : public DirtySource {
 public:
  FakeDirtySource(std::shared_ptr<FakeMachine> machine, const DirtyLogChoice& choice)
      : machine_(std::move(machine)), choice_(choice) {}
  ~FakeDirtySource() override { machine_->slots.CloseDirtyLog(); }

  const DirtyLogChoice& choice() const override { return choice_; }
  MemorySlots& slots() override { return machine_->slots; }

  absl::Status Prepare(DirtyStart start) override {
    MutexLock lock(&machine_->mutex);
    machine_->initially_set = choice_.initially_set && start == DirtyStart::kAll;
    return machine_->host->FailureOf("PrepareDirty");
  }

  absl::Status Harvest(std::span<const Slot> slots, DirtyClear clear) override {
    MutexLock lock(&machine_->mutex);
    for (const Slot& slot : slots) {
      const bool keep = choice_.manual_protect && clear == DirtyClear::kLater;
      if (choice_.kind == DirtyLogKind::kBitmap) Take(slot, keep);
      if (choice_.kind == DirtyLogKind::kRing) TakeEntries(slot);
      RETURN_IF_ERROR(machine_->host->FailureOf("HarvestDirty"));
    }
    if (choice_.kind == DirtyLogKind::kRing) ResetRings();
    return absl::OkStatus();
  }

  absl::Status Rearm(const SlotMapping& slot, uint64_t first_word,
                     std::span<const uint64_t> words) override {
    if (!choice_.manual_protect) return absl::OkStatus();
    MutexLock lock(&machine_->mutex);
    if (!Current(slot)) return absl::OkStatus();
    std::erase_if(machine_->dirty[slot.slot], [&](uint64_t page) {
      const uint64_t word = page / 64 - first_word;
      return page / 64 >= first_word && word < words.size() && (words[word] >> page % 64 & 1) != 0;
    });
    return absl::OkStatus();
  }

 private:
  bool Current(const SlotMapping& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(machine_->mutex) {
    const auto found = machine_->mapped.find(slot.slot);
    return found != machine_->mapped.end() && found->second.serial == slot.serial;
  }

  void Take(const Slot& slot, bool keep) ABSL_EXCLUSIVE_LOCKS_REQUIRED(machine_->mutex) {
    if (!Current(slot.mapping)) return;
    for (const uint64_t page : machine_->dirty[slot.mapping.slot]) Set(slot, page);
    if (!keep) machine_->dirty[slot.mapping.slot].clear();
  }

  void TakeEntries(const Slot& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(machine_->mutex) {
    for (const auto& [vcpu, ring] : machine_->rings)
      for (const FakeMachine::RingEntry& entry : ring)
        if (entry.slot == slot.mapping.slot && entry.page < slot.words.size() * 64)
          Set(slot, entry.page);
  }

  static void Set(const Slot& slot, uint64_t page) {
    SetPages(slot.words, page, 1);
    *slot.any = true;
  }

  void ResetRings() ABSL_EXCLUSIVE_LOCKS_REQUIRED(machine_->mutex) {
    for (auto& [vcpu, ring] : machine_->rings) {
      for (const FakeMachine::RingEntry& entry : ring)
        machine_->dirty[entry.slot].erase(entry.page);
      ring.clear();
    }
  }

  const std::shared_ptr<FakeMachine> machine_;
  const DirtyLogChoice choice_;
};

// Turns the rings on if the choice is one, or falls back.
absl::StatusOr<DirtyLogChoice> Choose(FakeMachine& machine, const DirtySourceOptions& options) {
  MutexLock lock(&machine.mutex);
  const bool ring_on = machine.ring_pages != 0;
  ASSIGN_OR_RETURN(DirtyLogChoice choice,
                   ChooseDirtyLog(options, machine.capabilities,
                                  {.ring_on = ring_on, .has_vcpus = !machine.vcpus.empty()}));
  if (choice.kind != DirtyLogKind::kRing) return choice;
  if (!ring_on && !machine.host->FailureOf("OpenDirtyRing").ok())
    return RefusedRing(options, machine.capabilities);
  if (ring_on) choice.ring_pages = machine.ring_pages;
  machine.ring_pages = choice.ring_pages;
  return choice;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DirtySource>> OpenFakeDirtySource(
    std::shared_ptr<FakeMachine> machine, const DirtySourceOptions& options) {
  RETURN_IF_ERROR(machine->slots.OpenDirtyLog());
  const absl::StatusOr<DirtyLogChoice> choice = Choose(*machine, options);
  if (choice.ok()) return std::make_unique<FakeDirtySource>(std::move(machine), *choice);
  machine->slots.CloseDirtyLog();
  return choice.status();
}

}  // namespace drover
