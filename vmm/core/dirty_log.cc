#include "vmm/core/dirty_log.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"
#include "vmm/core/vm_errors.h"

namespace drover {
namespace {

uint64_t PagesOf(const SlotMapping& slot) { return slot.range.size / PageSet::kPageBytes; }

absl::Status NotLogging() { return absl::FailedPreconditionError("the dirty log does not run"); }

absl::Status SlotState(MemorySlot slot, const char* what) {
  return absl::FailedPreconditionError(absl::StrFormat("memory slot %u %s", slot, what));
}

}  // namespace

absl::StatusOr<std::unique_ptr<DirtyLog>> DirtyLog::Create(const Options& options) {
  DROVER_CHECK(options.vm != nullptr);
  ASSIGN_OR_RETURN(std::unique_ptr<DirtySource> source,
                   options.vm->OpenDirtySource(options.source));
  const DirtyLogChoice& choice = source->choice();
  if (choice.fallback())
    drover::Log(LogLevel::kInfo, "dirty log falls back from the ring to the bitmap",
                {{"reason", NameOf(choice.reason)}});
  return std::unique_ptr<DirtyLog>(new DirtyLog(std::move(source), &options.vm->memory()));
}

DirtyLog::DirtyLog(std::unique_ptr<DirtySource> source, GuestMemory* memory)
    : memory_(memory), source_(std::move(source)) {}

DirtyLog::~DirtyLog() {
  const absl::Status status = Stop();
  if (!status.ok())
    drover::Log(LogLevel::kWarning, "dirty log did not stop", {{"error", status.ToString()}});
}

absl::StatusOr<SlotMapping> DirtyLog::FindSlot(MemorySlot slot) {
  for (const SlotMapping& mapping : source_->slots().Slots())
    if (mapping.slot == slot) return mapping;
  return UnknownSlot(slot);
}

void DirtyLog::FillIn(SlotLog* log) {
  log->pending.resize(PageWordCount(PagesOf(log->mapping)));
  if (!log->all) return;
  SetPages(log->pending, 0, PagesOf(log->mapping));
  log->any = true;
  log->all = false;
}

absl::Status DirtyLog::ForgetOldPages(SlotLog* log) {
  FillIn(log);
  CollectWrites(log);
  absl::Status status;
  if (choice().kind == DirtyLogKind::kRing) status = CollectVcpus(nullptr, DirtyClear::kNow);
  std::fill(log->pending.begin(), log->pending.end(), 0);
  log->any = false;
  return status;
}

absl::Status DirtyLog::StartOne(const SlotMapping& slot, DirtyStart start, bool watched) {
  if (logs_.empty()) memory_->SetWriteTracking(true);
  auto [at, added] = logs_.insert({slot.slot, {slot}});
  DROVER_CHECK(added);
  absl::Status status = source_->slots().LogSlot(slot, true);
  if (status.ok() && (watched || choice().kind == DirtyLogKind::kRing))
    status = ForgetOldPages(&at->second);
  at->second.all = start == DirtyStart::kAll;
  if (!status.ok()) (void)StopOne(slot.slot);
  return status;
}

absl::Status DirtyLog::StopOne(MemorySlot slot) {
  const auto found = logs_.find(slot);
  const absl::Status status = source_->slots().LogSlot(found->second.mapping, false);
  logs_.erase(found);
  if (logs_.empty()) memory_->SetWriteTracking(false);
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::Status DirtyLog::StartAll(DirtyStart start) {
  std::vector<MemorySlot> started;
  const bool watched = !logs_.empty();
  for (const SlotMapping& slot : source_->slots().Slots()) {
    if (logs_.contains(slot.slot)) continue;
    const absl::Status status = StartOne(slot, start, watched);
    if (absl::IsNotFound(status)) continue;  // gone in between
    if (!status.ok()) {
      for (const MemorySlot undo : started) (void)StopOne(undo);
      return status;
    }
    started.push_back(slot.slot);
  }
  return absl::OkStatus();
}

absl::Status DirtyLog::Start(DirtyStart start) {
  MutexLock lock(&mutex_);
  if (whole_) return absl::FailedPreconditionError("the dirty log runs already");
  FollowSlots();
  RETURN_IF_ERROR(source_->Prepare(start));
  source_->slots().LogNewSlots(true);
  const absl::Status status = StartAll(start);
  whole_ = status.ok();
  if (!whole_) source_->slots().LogNewSlots(false);
  return status;
}

absl::Status DirtyLog::StartSlot(MemorySlot slot, DirtyStart start) {
  MutexLock lock(&mutex_);
  FollowSlots();
  ASSIGN_OR_RETURN(const SlotMapping mapping, FindSlot(slot));
  if (logs_.contains(slot)) return SlotState(slot, "logs already");
  RETURN_IF_ERROR(source_->Prepare(start));
  return StartOne(mapping, start, !logs_.empty());
}

absl::Status DirtyLog::StopAll() {
  absl::Status first;
  while (!logs_.empty()) first.Update(StopOne(logs_.begin()->first));
  // Rings that are full let no vCPU run, so nothing stays in them.
  if (choice().kind == DirtyLogKind::kRing) first.Update(source_->Harvest({}, DirtyClear::kNow));
  return first;
}

absl::Status DirtyLog::Stop() {
  MutexLock lock(&mutex_);
  source_->slots().LogNewSlots(false);
  FollowSlots();
  whole_ = false;
  return StopAll();
}

absl::Status DirtyLog::StopSlot(MemorySlot slot) {
  MutexLock lock(&mutex_);
  FollowSlots();
  RETURN_IF_ERROR(FindSlot(slot).status());
  if (!logs_.contains(slot)) return SlotState(slot, "does not log");
  return StopOne(slot);
}

void DirtyLog::FollowSlots() {
  const std::vector<SlotMapping> now = source_->slots().Slots();
  std::erase_if(logs_, [&](const auto& log) {
    return std::none_of(now.begin(), now.end(), [&](const SlotMapping& slot) {
      return slot.serial == log.second.mapping.serial;
    });
  });
  if (!whole_) return;
  for (const SlotMapping& slot : now) {
    if (!slot.log_dirty_pages || logs_.contains(slot.slot)) continue;
    logs_[slot.slot] = {slot, /*all=*/true};
  }
}

absl::Status DirtyLog::CollectVcpus(const MemorySlot* only, DirtyClear clear) {
  if (choice().kind == DirtyLogKind::kRing) only = nullptr;
  std::vector<DirtySource::Slot> slots;
  for (auto& [slot, log] : logs_) {
    if (only != nullptr && *only != slot) continue;
    FillIn(&log);
    slots.push_back({log.mapping, log.pending, &log.any});
  }
  return source_->Harvest(slots, clear);
}

void DirtyLog::CollectWrites(SlotLog* log) {
  // A slot that has gone in between has no pages.
  log->any |= source_->slots().TakeWrites(log->mapping, log->pending).value_or(false);
  const std::vector<GuestRegion>& regions = memory_->regions();
  for (size_t i = 0; i < regions.size(); ++i)
    if (regions[i].host == log->mapping.host) log->any |= memory_->TakeWrites(i, log->pending);
}

absl::Status DirtyLog::Collect(const MemorySlot* only, DirtyClear clear) {
  RETURN_IF_ERROR(CollectVcpus(only, clear));
  for (auto& [slot, log] : logs_)
    if (only == nullptr || *only == slot) CollectWrites(&log);
  return absl::OkStatus();
}

void DirtyLog::Give(SlotLog* log, PageSet* pages) {
  const std::span<uint64_t> words = pages->WordsOf(log->mapping.slot, log->mapping.range);
  if (std::exchange(log->any, false)) MoveWords(words, log->pending);
}

absl::Status DirtyLog::Harvest(PageSet* pages, DirtyClear clear) {
  MutexLock lock(&mutex_);
  FollowSlots();
  if (logs_.empty() && !whole_) return NotLogging();
  RETURN_IF_ERROR(Collect(nullptr, clear));
  for (auto& [slot, log] : logs_) Give(&log, pages);
  return absl::OkStatus();
}

absl::Status DirtyLog::HarvestSlot(MemorySlot slot, PageSet* pages, DirtyClear clear) {
  MutexLock lock(&mutex_);
  FollowSlots();
  RETURN_IF_ERROR(FindSlot(slot).status());
  const auto found = logs_.find(slot);
  if (found == logs_.end()) return SlotState(slot, "does not log");
  RETURN_IF_ERROR(Collect(&slot, clear));
  Give(&found->second, pages);
  return absl::OkStatus();
}

absl::Status DirtyLog::Rearm(const PageSet& pages, MemorySlot slot, uint64_t first,
                             uint64_t count) {
  MutexLock lock(&mutex_);
  const auto found = logs_.find(slot);
  const PageSet::Region* const region = pages.Find(slot);
  if (found == logs_.end() || region == nullptr) return UnknownSlot(slot);
  const SlotMapping& mapping = found->second.mapping;
  if (first % 64 != 0) return Malformed(absl::StrFormat("rearming from page %u", first));
  if (region->range != mapping.range || first > region->pages() || count > region->pages() - first)
    return OutsideRegion(absl::StrFormat("%u pages from %u of memory slot %u", count, first, slot));
  PageWords words(region->words.begin() + static_cast<ptrdiff_t>(first / 64),
                  region->words.begin() + static_cast<ptrdiff_t>(PageWordCount(first + count)));
  if (count % 64 != 0) words.back() &= (uint64_t{1} << count % 64) - 1;
  return source_->Rearm(mapping, first / 64, words);
}

absl::Status DirtyLog::MarkDirty(uint64_t address, uint64_t size) {
  return source_->slots().MarkDirty(address, size);
}

absl::Status DirtyLog::HandleRingFull() {
  if (choice().kind != DirtyLogKind::kRing) return absl::OkStatus();
  MutexLock lock(&mutex_);
  FollowSlots();
  return CollectVcpus(nullptr, DirtyClear::kNow);
}

}  // namespace drover
