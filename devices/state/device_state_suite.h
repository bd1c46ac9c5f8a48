#ifndef DROVER_DEVICES_STATE_DEVICE_STATE_SUITE_H_
#define DROVER_DEVICES_STATE_DEVICE_STATE_SUITE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "devices/irq/fake_irq_line.h"
#include "devices/state/stateful_device.h"
#include "vmm/base/fake_clock.h"
#include "vmm/base/status_matchers.h"

namespace drover {

// What the state of every device must do. A device's test specializes the kit and instantiates the
// suite:
//
//   template <> struct DeviceStateKit<Device> {
//     using Message = ...;                                              // of device_state.proto
//     static std::unique_ptr<Device> Make(FakeIrqLine*, FakeClock*);    // as after power-on
//     static void Use(Device&, FakeClock&);  // what a guest does to it before it is saved
//     static void Spoil(Message*);           // puts a field out of range ...
//     static constexpr char kSpoiled[];      // ... of which the error says this
//     static constexpr bool kIrq;            // its line is high after Use
//   };
//   INSTANTIATE_TYPED_TEST_SUITE_P(Serial, DeviceStateTest, SerialPort);
template <typename Device>
struct DeviceStateKit;

template <typename Device>
class DeviceStateTest : public ::testing::Test {
 protected:
  using DeviceKit = DeviceStateKit<Device>;

  DeviceStateTest() : used_(DeviceKit::Make(&used_irq_, &clock_)) {
    DeviceKit::Use(*used_, clock_);
    fresh_ = DeviceKit::Make(&fresh_irq_, &clock_);
  }

  // The fresh device refuses `bytes` and stays as it is.
  void Refuses(uint32_t version, const std::vector<uint8_t>& bytes, absl::StatusCode code,
               const std::string& message) {
    const std::vector<uint8_t> before = fresh_->SaveState();
    EXPECT_THAT(
        fresh_->RestoreState(version, bytes),
        StatusIs(code, ::testing::AllOf(::testing::HasSubstr(message),
                                        ::testing::HasSubstr(std::string(fresh_->state_type())))));
    EXPECT_EQ(fresh_->SaveState(), before);
    EXPECT_FALSE(fresh_irq_.high());
  }

  FakeClock clock_;
  FakeIrqLine used_irq_, fresh_irq_;
  const std::unique_ptr<Device> used_;
  std::unique_ptr<Device> fresh_;
};

TYPED_TEST_SUITE_P(DeviceStateTest);

TYPED_TEST_P(DeviceStateTest, SaveRestoreSaveIsEqual) {
  const std::vector<uint8_t> saved = this->used_->SaveState();
  EXPECT_NE(this->fresh_->SaveState(), saved) << "the guest did nothing to it";
  ASSERT_OK(this->fresh_->RestoreState(this->used_->state_version(), saved));
  EXPECT_EQ(this->fresh_->SaveState(), saved);
  EXPECT_EQ(this->used_->SaveState(), saved) << "saving changes nothing";
}

TYPED_TEST_P(DeviceStateTest, RestoreDrivesTheInterruptLine) {
  EXPECT_EQ(this->used_irq_.high(), DeviceStateKit<TypeParam>::kIrq);
  ASSERT_OK(this->fresh_->RestoreState(1, this->used_->SaveState()));
  EXPECT_EQ(this->fresh_irq_.high(), this->used_irq_.high());
  const auto idle = DeviceStateKit<TypeParam>::Make(nullptr, &this->clock_);
  ASSERT_OK(this->fresh_->RestoreState(1, idle->SaveState()));
  EXPECT_FALSE(this->fresh_irq_.high());
}

TYPED_TEST_P(DeviceStateTest, TheGuestSeesNoDifference) {
  ASSERT_OK(this->fresh_->RestoreState(1, this->used_->SaveState()));
  for (int round = 0; round < 20; ++round) {
    for (uint64_t offset = 0; offset < TypeParam::kPortCount; ++offset) {
      uint8_t a = 0, b = 0;
      this->used_->Read(offset, {&a, 1});
      this->fresh_->Read(offset, {&b, 1});
      EXPECT_EQ(a, b) << offset;
    }
  }
  EXPECT_EQ(this->used_->SaveState(), this->fresh_->SaveState());
}

TYPED_TEST_P(DeviceStateTest, PauseAndResumeAreIdempotent) {
  const std::vector<uint8_t> before = this->used_->SaveState();
  this->used_->Pause();
  this->used_->Pause();
  EXPECT_EQ(this->used_->SaveState(), before);
  this->used_->Resume();
  this->used_->Resume();
  EXPECT_EQ(this->used_->SaveState(), before);
}

TYPED_TEST_P(DeviceStateTest, ABrokenStateChangesNothing) {
  typename DeviceStateKit<TypeParam>::Message message;
  const std::vector<uint8_t> saved = this->used_->SaveState();
  ASSERT_TRUE(message.ParseFromArray(saved.data(), static_cast<int>(saved.size())));
  DeviceStateKit<TypeParam>::Spoil(&message);
  this->Refuses(1, DeviceStateBytes(message), absl::StatusCode::kInvalidArgument,
                DeviceStateKit<TypeParam>::kSpoiled);
  this->Refuses(1, {0xFF, 0xFF}, absl::StatusCode::kInvalidArgument, "2 bytes that are no drover.");
}

TYPED_TEST_P(DeviceStateTest, RefusesVersionsThatItDoesNotKnow) {
  const std::vector<uint8_t> saved = this->used_->SaveState();
  this->Refuses(0, saved, absl::StatusCode::kUnimplemented, "version 0: this Drover reads 1 to 1");
  this->Refuses(2, saved, absl::StatusCode::kUnimplemented, "version 2: this Drover reads 1 to 1");
}

TYPED_TEST_P(DeviceStateTest, KeepsGoingUnderNewerOptionalFields) {
  std::vector<uint8_t> saved = this->used_->SaveState();
  const std::vector<uint8_t> plain = saved;
  saved.insert(saved.end(), {0xF8, 0x07, 0x01});  // field 127, varint 1
  ASSERT_OK(this->fresh_->RestoreState(1, saved));
  EXPECT_EQ(this->fresh_->SaveState(), plain);
}

// Whatever is taken is a state that a guest could have made: saved and restored it is the same, and
// every register answers.
TYPED_TEST_P(DeviceStateTest, SurvivesRandomBytes) {
  std::mt19937 random(11);
  const std::vector<uint8_t> saved = this->used_->SaveState();
  for (int round = 0; round < 5000; ++round) {
    std::vector<uint8_t> bytes = saved;
    for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
    if (!this->fresh_->RestoreState(1, bytes).ok()) continue;
    const std::vector<uint8_t> taken = this->fresh_->SaveState();
    ASSERT_OK(this->fresh_->RestoreState(1, taken));
    EXPECT_EQ(this->fresh_->SaveState(), taken);
    std::vector<uint8_t> read(TypeParam::kPortCount);
    this->fresh_->Read(0, read);
    this->fresh_->Write(0, read);
  }
}

REGISTER_TYPED_TEST_SUITE_P(DeviceStateTest, SaveRestoreSaveIsEqual, RestoreDrivesTheInterruptLine,
                            TheGuestSeesNoDifference, PauseAndResumeAreIdempotent,
                            ABrokenStateChangesNothing, RefusesVersionsThatItDoesNotKnow,
                            KeepsGoingUnderNewerOptionalFields, SurvivesRandomBytes);

}  // namespace drover

#endif  // DROVER_DEVICES_STATE_DEVICE_STATE_SUITE_H_
