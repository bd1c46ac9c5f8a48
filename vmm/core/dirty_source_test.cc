#include "vmm/core/dirty_source.h"

#include <gtest/gtest.h>

#include <sstream>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using absl::StatusCode;

constexpr uint32_t kMiB = 1 << 20;

DirtyLogChoice Choose(DirtyLogWish wish, uint32_t manual, uint32_t ring_bytes,
                      DirtyLogSituation situation = {}) {
  const BackendCapabilities host = {.dirty_page_tracking = true,
                                    .dirty_ring_bytes = ring_bytes,
                                    .manual_dirty_log_protect = manual};
  return ChooseDirtyLog({.kind = wish}, host, situation).value();
}

TEST(ChooseDirtyLog, FollowsTheWishTheHostAndTheMachine) {
  using enum DirtyLogWish;
  using Reason = DirtyLogReason;
  constexpr auto kBitmaps = DirtyLogKind::kBitmap;
  constexpr auto kRings = DirtyLogKind::kRing;
  const struct {
    DirtyLogChoice got, expected;
  } cases[] = {
      {Choose(kAuto, 3, kMiB), {kBitmaps, Reason::kAutomatic, true, true}},
      {Choose(kAuto, 0, kMiB), {kRings, Reason::kAutomatic, false, false, 65536}},
      {Choose(kAuto, 0, kMiB, {.has_vcpus = true}), {kBitmaps, Reason::kVcpusExist}},
      {Choose(kAuto, 0, 0), {kBitmaps, Reason::kNoRing}},
      {Choose(kBitmap, 1, kMiB), {kBitmaps, Reason::kAsked, true}},
      {Choose(kRing, 3, kMiB), {kRings, Reason::kAsked, false, false, 65536}},
      {Choose(kRing, 3, 0), {kBitmaps, Reason::kNoRing, true, true}},
      {Choose(kRing, 1, kMiB, {.has_vcpus = true}), {kBitmaps, Reason::kVcpusExist, true}},
      {Choose(kBitmap, 3, kMiB, {.ring_on = true}),
       {kRings, Reason::kRingAlreadyOn, false, false, 65536}},
  };
  for (const auto& c : cases) EXPECT_EQ(c.got, c.expected);
}

TEST(ChooseDirtyLog, RefusesWhatCannotBe) {
  EXPECT_THAT(ChooseDirtyLog({}, {}, {}), StatusIs(StatusCode::kUnimplemented));
  const BackendCapabilities host = {.dirty_page_tracking = true, .dirty_ring_bytes = kMiB};
  EXPECT_THAT(ChooseDirtyLog({.ring_bytes = 3 * 4096}, host, {}),
              StatusIs(StatusCode::kInvalidArgument));
}

TEST(DirtyLogChoice, IsPrinted) {
  std::ostringstream text;
  text << Choose(DirtyLogWish::kRing, 3, 0) << ", " << Choose(DirtyLogWish::kRing, 0, kMiB);
  EXPECT_EQ(text.str(),
            "bitmap (the host has no ring, manual protect, initially set), "
            "ring (asked for, 65536 pages)");
}

}  // namespace
}  // namespace drover
