#include "devices/rtc/rtc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "devices/irq/fake_irq_line.h"
#include "vmm/base/fake_clock.h"

namespace drover {
namespace {

using ::testing::ElementsAre;

constexpr int64_t kSecond = 1'000'000'000;
// FakeClock begins at 2023-11-14 22:13:20 UTC, a Tuesday.
constexpr int64_t kStart = 1'700'000'000 * kSecond;

class RtcTest : public ::testing::Test {
 protected:
  RtcTest()
      : rtc_({.clock = &clock_, .irq = &irq_, .arm_timer = [this](int64_t t) { timer_ = t; }}) {}
  uint8_t In(uint8_t index) {
    rtc_.Write(0, {&index, 1});
    uint8_t value;
    rtc_.Read(1, {&value, 1});
    return value;
  }
  void Out(uint8_t index, uint8_t value) {
    rtc_.Write(0, {&index, 1});
    rtc_.Write(1, {&value, 1});
  }
  // Century, year, month, day, weekday, hour, minute, second.
  std::vector<int> Now() {
    std::vector<int> now;
    for (uint8_t index : {0x32, 9, 8, 7, 6, 4, 2, 0}) now.push_back(In(index));
    return now;
  }
  void RunTimer() {
    clock_.Advance(timer_ - clock_.UnixNanos());
    timer_ = 0;
    rtc_.OnTimer();
  }

  FakeClock clock_;
  FakeIrqLine irq_;
  int64_t timer_ = 0;
  Rtc rtc_;
};

TEST_F(RtcTest, TellsTheTimeInBcd) {
  EXPECT_THAT(Now(), ElementsAre(0x20, 0x23, 0x11, 0x14, 3, 0x22, 0x13, 0x20));
  clock_.Advance(2 * 3600 * kSecond);
  EXPECT_THAT(Now(), ElementsAre(0x20, 0x23, 0x11, 0x15, 4, 0x00, 0x13, 0x20));
}

TEST_F(RtcTest, TellsTheTimeInBinaryAnd12Hours) {
  Out(0x0B, 0x06);
  EXPECT_THAT(Now(), ElementsAre(20, 23, 11, 14, 3, 22, 13, 20));
  Out(0x0B, 0x04);
  EXPECT_EQ(In(4), 0x80 | 10);
  Out(0x0B, 0x00);
  EXPECT_EQ(In(4), 0x80 | 0x10);
  clock_.Advance(2 * 3600 * kSecond);
  EXPECT_EQ(In(4), 0x12);
}

TEST_F(RtcTest, StatusRegisters) {
  EXPECT_EQ(In(0x0A), 0x26);
  EXPECT_EQ(In(0x0B), 0x02);
  EXPECT_EQ(In(0x0C), 0x00);
  EXPECT_EQ(In(0x0D), 0x80);
  Out(0x0D, 0);
  EXPECT_EQ(In(0x0D), 0x80);
}

TEST_F(RtcTest, UpdateInProgressJustBeforeTheSecondEnds) {
  EXPECT_EQ(In(0x0A) & 0x80, 0);
  clock_.Advance(kSecond - 100'000);
  EXPECT_EQ(In(0x0A) & 0x80, 0x80);
  clock_.Advance(100'000);
  EXPECT_EQ(In(0x0A) & 0x80, 0);
}

TEST_F(RtcTest, TheGuestSetsTheTime) {
  Out(0x0B, 0x82);
  for (auto [index, value] : std::vector<std::pair<uint8_t, uint8_t>>{
           {0x32, 0x19}, {9, 0x99}, {8, 0x12}, {7, 0x31}, {4, 0x23}, {2, 0x59}, {0, 0x58}})
    Out(index, value);
  clock_.Advance(10 * kSecond);
  EXPECT_EQ(In(0), 0x58);  // stopped while SET is on
  Out(0x0B, 0x02);
  clock_.Advance(2 * kSecond);
  EXPECT_THAT(Now(), ElementsAre(0x20, 0x00, 0x01, 0x01, 7, 0x00, 0x00, 0x00));
}

TEST_F(RtcTest, ARunningRegisterMayBeWritten) {
  Out(2, 0x40);
  clock_.Advance(kSecond);
  EXPECT_EQ(In(2), 0x40);
  EXPECT_EQ(In(0), 0x21);
}

TEST_F(RtcTest, NonsenseIsSomeTime) {
  for (uint8_t format : {0x82, 0x86, 0x80, 0x84}) {
    Out(0x0B, format);
    for (uint8_t index : {0x32, 9, 8, 7, 6, 4, 2, 0}) Out(index, 0xFF);
    Out(0x0B, static_cast<uint8_t>(format & 0x7F));
    Now();
  }
}

TEST_F(RtcTest, MemoryIsKeptAlsoOverReset) {
  Out(0x0F, 0x55);
  Out(0x7F, 0xAA);
  rtc_.Reset();
  EXPECT_EQ(In(0x0F), 0x55);
  EXPECT_EQ(In(0xFF), 0xAA);  // bit 7 masks NMIs only
}

TEST_F(RtcTest, UpdateEndedInterruptEachSecond) {
  Out(0x0B, 0x12);
  EXPECT_EQ(timer_, kStart + kSecond);
  RunTimer();
  EXPECT_TRUE(irq_.high());
  EXPECT_EQ(timer_, kStart + 2 * kSecond);
  EXPECT_EQ(In(0x0C) & 0x90, 0x90);
  EXPECT_FALSE(irq_.high());
  EXPECT_EQ(In(0x0C), 0);
  RunTimer();
  EXPECT_EQ(irq_.edges(), 2);
}

TEST_F(RtcTest, AlarmComesAtItsTime) {
  Out(1, 0x22);
  Out(3, 0xC0);
  Out(5, 0xFF);
  Out(0x0B, 0x22);
  RunTimer();
  EXPECT_FALSE(irq_.high());
  RunTimer();
  EXPECT_TRUE(irq_.high());
  EXPECT_EQ(In(0x0C), 0xB0);
  EXPECT_FALSE(irq_.high());
}

TEST_F(RtcTest, AlarmFlagIsSetWithoutInterruptsToo) {
  Out(1, 0x22);
  Out(3, 0x13);
  Out(5, 0x22);
  clock_.Advance(3600 * kSecond);
  EXPECT_EQ(In(0x0C), 0x30);
  EXPECT_EQ(timer_, 0);
  clock_.Advance(kSecond);
  EXPECT_EQ(In(0x0C), 0x10);
}

TEST_F(RtcTest, NoTimerWhileNothingIsEnabled) {
  Out(0x0B, 0x12);
  Out(0x0B, 0x02);
  RunTimer();
  EXPECT_EQ(timer_, 0);
  EXPECT_FALSE(irq_.high());
}

TEST_F(RtcTest, ResetDisablesInterruptsAndKeepsTheTime) {
  Out(2, 0x40);
  Out(0x0B, 0x12);
  RunTimer();
  EXPECT_TRUE(irq_.high());
  rtc_.Reset();
  EXPECT_FALSE(irq_.high());
  EXPECT_EQ(In(0x0B), 0x02);
  EXPECT_EQ(In(2), 0x40);
}

}  // namespace
}  // namespace drover
