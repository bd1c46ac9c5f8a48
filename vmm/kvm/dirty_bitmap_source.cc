#include "vmm/kvm/dirty_bitmap_source.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/base/log.h"
#include "vmm/kvm/kvm_ioctl.h"

namespace drover {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr size_t kWordsAtOnce = 1024;  // 256 MiB of guest memory

}  // namespace

DirtyBitmapSource::DirtyBitmapSource(std::shared_ptr<KvmMachine> machine,
                                     const DirtyLogChoice& choice)
    : machine_(std::move(machine)), choice_(choice) {
  if (!choice_.manual_protect) return;
  const absl::Status status = SetManualProtect(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
  if (status.ok()) return;
  Log(LogLevel::kInfo, "dirty log without manual protect", {{"error", status.ToString()}});
  choice_.manual_protect = choice_.initially_set = false;
}

DirtyBitmapSource::~DirtyBitmapSource() {
  machine_->slots.CloseDirtyLog();
  if (choice_.manual_protect) (void)SetManualProtect(0);  // for Vm::GetDirtyLog
}

absl::Status DirtyBitmapSource::SetManualProtect(uint64_t flags) {
  struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {flags}};
  return KvmIoctl(machine_->vm.get(), KVM_ENABLE_CAP, &cap, "KVM_ENABLE_CAP",
                  "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2");
}

absl::Status DirtyBitmapSource::Prepare(DirtyStart start) {
  if (!choice_.initially_set) return absl::OkStatus();
  const uint64_t all = start == DirtyStart::kAll ? KVM_DIRTY_LOG_INITIALLY_SET : 0;
  return SetManualProtect(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | all);
}

absl::Status DirtyBitmapSource::Harvest(std::span<const Slot> slots, DirtyClear clear) {
  for (const Slot& slot : slots) {
    const absl::Status status =
        machine_->slots.WithSlot(slot.mapping, [&] { return HarvestOne(slot, clear); });
    if (!status.ok() && !absl::IsNotFound(status)) return status;
  }
  return absl::OkStatus();
}

absl::Status DirtyBitmapSource::HarvestOne(const Slot& slot, DirtyClear clear) {
  std::span<uint64_t> words = slot.words;
  if (*slot.any) {
    scratch_.resize(std::max(scratch_.size(), words.size()));
    words = std::span(scratch_).first(words.size());
  }
  struct kvm_dirty_log log = {.slot = slot.mapping.slot};
  log.dirty_bitmap = words.data();
  RETURN_IF_ERROR(KvmIoctl(machine_->vm.get(), KVM_GET_DIRTY_LOG, &log, "KVM_GET_DIRTY_LOG",
                           absl::StrCat("slot ", slot.mapping.slot)));
  if (!AnyPage(words)) return absl::OkStatus();
  if (*slot.any) MergeWords(slot.words, words);
  *slot.any = true;
  if (!choice_.manual_protect || clear == DirtyClear::kLater) return absl::OkStatus();
  return Clear(slot.mapping, 0, words);
}

absl::Status DirtyBitmapSource::Rearm(const SlotMapping& slot, uint64_t first_word,
                                      std::span<const uint64_t> words) {
  if (!choice_.manual_protect) return absl::OkStatus();
  const absl::Status status =
      machine_->slots.WithSlot(slot, [&] { return Clear(slot, first_word, words); });
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::Status DirtyBitmapSource::Clear(const SlotMapping& slot, uint64_t first_word,
                                      std::span<const uint64_t> words) {
  const uint64_t pages = slot.range.size / kPageBytes;
  for (size_t at = 0; at < words.size(); at += kWordsAtOnce) {
    const auto piece = words.subspan(at, std::min(kWordsAtOnce, words.size() - at));
    if (!AnyPage(piece)) continue;
    const uint64_t first = (first_word + at) * 64;
    struct kvm_clear_dirty_log log = {
        .slot = slot.slot,
        .num_pages = static_cast<uint32_t>(std::min<uint64_t>(piece.size() * 64, pages - first)),
        .first_page = first};
    log.dirty_bitmap = const_cast<uint64_t*>(piece.data());
    RETURN_IF_ERROR(KvmIoctl(machine_->vm.get(), KVM_CLEAR_DIRTY_LOG, &log, "KVM_CLEAR_DIRTY_LOG",
                             absl::StrCat("slot ", slot.slot)));
  }
  return absl::OkStatus();
}

}  // namespace drover
