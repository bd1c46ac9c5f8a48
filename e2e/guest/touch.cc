#include "e2e/guest/touch.h"

#include "e2e/guest/clock.h"
#include "e2e/guest/console.h"
#include "e2e/guest/pattern.h"

namespace guest {

Toucher toucher;

namespace {

constexpr uint64_t kPagesPerStep = 16;
constexpr uint64_t kBadPagesPrinted = 8;
constexpr int kLongestPace = 44;  // bits of TSC cycles: an hour or more

}  // namespace

void Toucher::Start(const TouchPlan& plan) {
  plan_ = plan;
  running_ = true;
  writes_ = next_page_ = pace_writes_ = 0;
  generation_ = 1;
  PaceHz();  // found now, not in the middle of the work
  pace_start_ = Tsc();
}

void Toucher::RestartPace(uint64_t now) {
  pace_start_ = now;
  pace_writes_ = 0;
}

// Pages due now. After a time in which the guest did not run, the arrears of more than 0.1 s are
// dropped; so are all of them when the TSC jumped.
uint64_t Toucher::Due(uint64_t now) {
  if (plan_.rate == 0) return kPagesPerStep;
  const uint64_t elapsed = now - pace_start_;
  if (elapsed >> kLongestPace) {
    RestartPace(now);
    return 0;
  }
  const uint64_t target = MulDiv(elapsed, plan_.rate, PaceHz());
  const uint64_t due = target > pace_writes_ ? target - pace_writes_ : 0;
  if (due > plan_.rate / 10 + kPagesPerStep) RestartPace(now);
  return due < kPagesPerStep ? due : kPagesPerStep;
}

void Toucher::WritePage() {
  const uint64_t address = plan_.base + next_page_ * kPageSize;
  const uint64_t start = PatternStart(plan_.seed, address, generation_);
  auto* page = reinterpret_cast<uint64_t*>(address);
  for (uint64_t i = 0; i < plan_.bytes / 8; i++) page[i] = PatternWord(start, i);
  gap_meter.Sample();
  writes_++;
  pace_writes_++;
  if (++next_page_ < pages()) return;
  next_page_ = 0;
  if (generation_++ == plan_.passes) running_ = false;
}

void Toucher::Step() {
  if (!running_) return;
  for (uint64_t due = Due(Tsc()); due > 0 && running_; due--) WritePage();
}

bool Toucher::CheckPage(uint64_t address, uint64_t generation, uint64_t* checksum,
                        bool print) const {
  const uint64_t start = PatternStart(plan_.seed, address, generation);
  const auto* page = reinterpret_cast<const uint64_t*>(address);
  for (uint64_t i = 0; i < plan_.bytes / 8; i++) {
    const uint64_t found = Load(page[i]);
    *checksum += found * (2 * i + 1);
    if (found == PatternWord(start, i)) continue;
    if (print) {
      Print("bad address=%x generation=%u expected=%x found=%x\n", address + 8 * i, generation,
            PatternWord(start, i), found);
    }
    return false;
  }
  return true;
}

VerifyResult Toucher::Verify() const {
  VerifyResult result = {0, 0, 0};
  if (plan_.size == 0) return result;
  for (uint64_t i = 0; i < pages(); i++) {
    gap_meter.Sample();
    const uint64_t generation = i < next_page_ ? generation_ : generation_ - 1;
    if (generation == 0) break;
    result.pages++;
    const bool print = result.bad < kBadPagesPrinted;
    if (!CheckPage(plan_.base + i * kPageSize, generation, &result.checksum, print)) result.bad++;
  }
  return result;
}

uint64_t Checksum(uint64_t base, uint64_t size) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < size / 8; i++) {
    sum += reinterpret_cast<const uint64_t*>(base)[i] * (2 * i + 1);
    if (i % 512 == 0) gap_meter.Sample();
  }
  return sum;
}

}  // namespace guest
