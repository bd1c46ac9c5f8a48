#include "devices/power/power.h"

#include "devices/irq/fake_irq_line.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

constexpr uint16_t kPowerButton = 1 << 8;
constexpr uint16_t kSleepEnable = 1 << 13;

class PowerTest : public ::testing::Test {
 protected:
  PowerTest() : power_({.sci = &sci_, .on_shutdown = [this] { ++shutdowns_; }}) {}
  uint16_t In(uint64_t offset) {
    uint8_t data[2];
    power_.Read(offset, data);
    return static_cast<uint16_t>(data[0] | data[1] << 8);
  }
  void Out(uint64_t offset, uint16_t value) {
    const uint8_t data[2] = {static_cast<uint8_t>(value), static_cast<uint8_t>(value >> 8)};
    power_.Write(offset, data);
  }

  FakeIrqLine sci_;
  int shutdowns_ = 0;
  PowerDevice power_;
};

TEST_F(PowerTest, PowerOnRegisters) {
  EXPECT_EQ(In(0), 0);
  EXPECT_EQ(In(2), 0);
  EXPECT_EQ(In(4), 1);  // SCI_EN: always in ACPI mode
}

TEST_F(PowerTest, ButtonIsRefusedWhileTheGuestDoesNotListen) {
  const absl::Status status = power_.PressPowerButton();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(ReasonOf(status), "POWER_BUTTON_IGNORED");
  EXPECT_FALSE(sci_.high());
  Out(2, kPowerButton);
  EXPECT_FALSE(sci_.high());  // the refused press is not remembered
}

TEST_F(PowerTest, ButtonRaisesTheSciUntilItsStatusIsCleared) {
  Out(2, kPowerButton);
  EXPECT_EQ(In(2), kPowerButton);
  EXPECT_OK(power_.PressPowerButton());
  EXPECT_TRUE(sci_.high());
  EXPECT_EQ(In(0), kPowerButton);
  Out(0, static_cast<uint16_t>(~kPowerButton));
  EXPECT_TRUE(sci_.high());
  Out(0, kPowerButton);
  EXPECT_FALSE(sci_.high());
  EXPECT_EQ(In(0), 0);
}

TEST_F(PowerTest, DisablingLowersTheSci) {
  Out(2, kPowerButton);
  EXPECT_OK(power_.PressPowerButton());
  Out(2, 0);
  EXPECT_FALSE(sci_.high());
}

TEST_F(PowerTest, EnableKeepsItsEventsOnly) {
  Out(2, 0xFFFF);
  EXPECT_EQ(In(2), 0x0721);
  EXPECT_FALSE(sci_.high());
}

TEST_F(PowerTest, S5TurnsOff) {
  Out(4, 5 << 10);
  EXPECT_EQ(shutdowns_, 0);
  EXPECT_EQ(In(4), 5 << 10 | 1);
  Out(4, 5 << 10 | kSleepEnable);
  EXPECT_EQ(shutdowns_, 1);
  EXPECT_EQ(In(4) & kSleepEnable, 0);
}

TEST_F(PowerTest, OtherSleepTypesAreIgnored) {
  for (uint16_t type : {0, 1, 2, 3, 4, 6, 7})
    Out(4, static_cast<uint16_t>(type << 10 | kSleepEnable));
  EXPECT_EQ(shutdowns_, 0);
}

TEST_F(PowerTest, AnyWidth) {
  const uint8_t high = 5 << 2 | 1 << 5;
  power_.Write(5, {&high, 1});
  EXPECT_EQ(shutdowns_, 1);
  const uint8_t all[4] = {0, 0, 0, 1};
  power_.Write(0, all);
  EXPECT_EQ(In(2), kPowerButton);
  uint8_t wide[8];
  power_.Read(0, wide);
  EXPECT_EQ(wide[3], 1);
  EXPECT_EQ(wide[7], 0xFF);
}

TEST_F(PowerTest, Reset) {
  Out(2, kPowerButton);
  EXPECT_OK(power_.PressPowerButton());
  power_.Reset();
  EXPECT_FALSE(sci_.high());
  EXPECT_EQ(In(0), 0);
  EXPECT_EQ(In(2), 0);
  EXPECT_THAT(power_.PressPowerButton(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace drover
