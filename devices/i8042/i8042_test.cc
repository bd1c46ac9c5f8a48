#include "devices/i8042/i8042.h"

#include <gtest/gtest.h>

namespace drover {
namespace {

class I8042Test : public ::testing::Test {
 protected:
  I8042Test() : controller_({.on_reset = [this] { ++resets_; }}) {}
  uint8_t In(uint64_t port) {
    uint8_t value;
    controller_.Read(port - 0x60, {&value, 1});
    return value;
  }
  void Out(uint64_t port, uint8_t value) { controller_.Write(port - 0x60, {&value, 1}); }

  int resets_ = 0;
  I8042 controller_;
};

TEST_F(I8042Test, ResetCommands) {
  Out(0x64, 0xFE);
  EXPECT_EQ(resets_, 1);
  Out(0x64, 0xFF);  // pulses nothing
  EXPECT_EQ(resets_, 1);
  Out(0x64, 0xD1);
  Out(0x60, 0xDF);  // A20 on, not reset
  EXPECT_EQ(resets_, 1);
  Out(0x64, 0xD1);
  Out(0x60, 0xDE);
  EXPECT_EQ(resets_, 2);
}

TEST_F(I8042Test, DataAloneNeverResets) {
  Out(0x60, 0xFE);
  Out(0x60, 0x00);
  EXPECT_EQ(resets_, 0);
}

// The steps of Linux's i8042 probe: it finds a controller and no mouse, and never waits.
TEST_F(I8042Test, LinuxProbe) {
  EXPECT_EQ(In(0x64) & 3, 0);  // nothing to flush, ready for a command
  Out(0x64, 0x20);
  EXPECT_EQ(In(0x64) & 1, 1);
  const uint8_t command_byte = In(0x60);
  EXPECT_EQ(command_byte, 0x30);
  EXPECT_EQ(In(0x64) & 1, 0);
  Out(0x64, 0x60);
  EXPECT_EQ(In(0x64) & 8, 8);
  Out(0x60, command_byte | 0x01);
  Out(0x64, 0x20);
  EXPECT_EQ(In(0x60), command_byte | 0x01);
  Out(0x64, 0xAA);
  EXPECT_EQ(In(0x60), 0x55);
  Out(0x64, 0xD3);  // mouse loop: answered as by a keyboard, so there is no mouse
  Out(0x60, 0x5A);
  EXPECT_EQ(In(0x64) & 0x21, 0x01);
  EXPECT_EQ(In(0x60), 0x5A);
  Out(0x64, 0xA9);
  EXPECT_EQ(In(0x60), 0x01);
}

TEST_F(I8042Test, CommandByteFollowsEnableAndDisable) {
  const auto command_byte = [this] {
    Out(0x64, 0x20);
    return In(0x60);
  };
  Out(0x64, 0xAE);
  EXPECT_EQ(command_byte(), 0x20);
  Out(0x64, 0xA8);
  EXPECT_EQ(command_byte(), 0x00);
  Out(0x64, 0xAD);
  Out(0x64, 0xA7);
  EXPECT_EQ(command_byte(), 0x30);
}

TEST_F(I8042Test, ACommandCancelsTheOneThatWaits) {
  Out(0x64, 0xD1);
  Out(0x64, 0xAB);
  Out(0x60, 0x00);
  EXPECT_EQ(resets_, 0);
}

TEST_F(I8042Test, OtherPortsAreOnes) {
  EXPECT_EQ(In(0x61), 0xFF);
  Out(0x61, 0);
  Out(0x62, 0xFE);
  EXPECT_EQ(resets_, 0);
}

TEST_F(I8042Test, ResetForgets) {
  Out(0x64, 0xAA);
  controller_.Reset();
  EXPECT_EQ(In(0x64), 0x14);
}

}  // namespace
}  // namespace drover
