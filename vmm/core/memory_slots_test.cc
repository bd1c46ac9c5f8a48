#include "vmm/core/memory_slots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using absl::StatusCode;
using testing::Each;

constexpr uint64_t kPage = 4096;

// The arguments' rules are in hypervisor_suite; here is what only a backend that fails shows.
class MemorySlotsTest : public testing::Test {
 protected:
  absl::StatusOr<MemorySlot> Add(uint64_t address, bool log = false) {
    return slots_.Add(address, PlainRegion::Anonymous(kPage).value(), false, log,
                      CacheType::kCoherent);
  }

  absl::Status answer_;
  std::vector<SlotMapping> applied_;
  MemorySlots slots_{GuestMemory::Create({{0, kPage}, {4 * kPage, kPage}}).value(), 4,
                     [this](const SlotMapping& mapping) {
                       if (answer_.ok()) applied_.push_back(mapping);
                       return answer_;
                     }};
};

TEST_F(MemorySlotsTest, InitialMemoryComesFirst) {
  ASSERT_OK(slots_.MapInitialMemory());
  ASSERT_EQ(applied_.size(), 2u);
  EXPECT_EQ(applied_[1].slot, 1u);
  EXPECT_EQ(applied_[1].range, (GuestRange{4 * kPage, kPage}));
  EXPECT_EQ(applied_[1].host, slots_.memory().regions()[1].host);
}

TEST_F(MemorySlotsTest, BackendsRefusalGivesTheSlotBack) {
  answer_ = absl::InternalError("KVM");
  EXPECT_THAT(Add(0), StatusIs(StatusCode::kInternal));
  answer_ = absl::OkStatus();
  EXPECT_THAT(Add(0), IsOkAndHolds(0u));
}

TEST_F(MemorySlotsTest, FailedRemoveKeepsTheRegion) {
  ASSERT_OK(Add(0));
  answer_ = absl::InternalError("KVM");
  EXPECT_THAT(slots_.Remove(0), StatusIs(StatusCode::kInternal));
  answer_ = absl::OkStatus();
  EXPECT_OK(slots_.Remove(0));
  EXPECT_EQ(applied_.back().range.size, 0u);
}

TEST_F(MemorySlotsTest, FailedLoggingChangesNothing) {
  ASSERT_OK(Add(0));
  answer_ = absl::InternalError("KVM");
  EXPECT_THAT(slots_.SetDirtyLogging(0, true), StatusIs(StatusCode::kInternal));
  std::vector<uint8_t> bitmap(8);
  EXPECT_THAT(slots_.GetDirtyLog(0, bitmap, {}), StatusIs(StatusCode::kFailedPrecondition));
}

TEST_F(MemorySlotsTest, NoMoreThanTheLimit) {
  for (uint64_t i = 0; i < 4; ++i) ASSERT_OK(Add(i * kPage));
  EXPECT_THAT(Add(9 * kPage),
              testing::AllOf(StatusIs(StatusCode::kResourceExhausted), HasErrno(ENOSPC)));
  ASSERT_OK(slots_.Remove(2));
  EXPECT_THAT(Add(9 * kPage), IsOkAndHolds(2u));
}

TEST_F(MemorySlotsTest, BitmapIsReadInWholeWords) {
  ASSERT_OK(Add(0, true));
  size_t asked = 0;
  const auto read = [&](MemorySlot, std::span<uint8_t> words) {
    asked = words.size();
    std::fill(words.begin(), words.end(), 1);
    return absl::OkStatus();
  };
  std::vector<uint8_t> one(1), many(24, 0xff);
  ASSERT_OK(slots_.GetDirtyLog(0, one, read));
  EXPECT_EQ(asked, 8u);
  EXPECT_EQ(one[0], 1);
  ASSERT_OK(slots_.GetDirtyLog(0, many, read));
  EXPECT_EQ(asked, 8u);
  EXPECT_THAT(std::span(many).subspan(8), Each(0));
}

TEST_F(MemorySlotsTest, ARegionKeepsTheInitialMemory) {
  std::unique_ptr<MemoryRegion> region;
  {
    MemorySlots slots(GuestMemory::Create({{0, kPage}}).value(), 4,
                      [](const SlotMapping&) { return absl::OkStatus(); });
    ASSERT_OK(slots.MapInitialMemory());
    ASSERT_OK_AND_ASSIGN(region, slots.Remove(0));
  }
  region->data()[0] = 1;
}

}  // namespace
}  // namespace drover
