#include "devices/serial/serial.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "devices/irq/fake_irq_line.h"

namespace drover {
namespace {

class StringSink : public SerialSink {
 public:
  void Write(std::span<const uint8_t> bytes) override { text.append(bytes.begin(), bytes.end()); }
  std::string text;
};

class SerialTest : public ::testing::Test {
 protected:
  SerialTest() : port_({.irq = &irq_, .sink = &sink_, .on_room = [this] { ++rooms_; }}) {}

  uint8_t In(uint64_t offset) {
    uint8_t value;
    port_.Read(offset, {&value, 1});
    return value;
  }
  void Out(uint64_t offset, uint8_t value) { port_.Write(offset, {&value, 1}); }
  size_t Feed(const std::string& text) {
    return port_.Feed({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  std::string ReadAll() {
    std::string text;
    while ((In(5) & 1) != 0) text += static_cast<char>(In(0));
    return text;
  }

  FakeIrqLine irq_;
  StringSink sink_;
  std::atomic<int> rooms_{0};
  SerialPort port_;
};

TEST_F(SerialTest, PowerOnRegisters) {
  EXPECT_EQ(In(1), 0);
  EXPECT_EQ(In(2), 0x01);
  EXPECT_EQ(In(3), 0);
  EXPECT_EQ(In(4), 0);
  EXPECT_EQ(In(5), 0x60);
  EXPECT_EQ(In(6), 0xB0);
  EXPECT_EQ(In(7), 0);
}

TEST_F(SerialTest, OutputGoesToTheSink) {
  for (char c : std::string("hello")) Out(0, static_cast<uint8_t>(c));
  EXPECT_EQ(sink_.text, "hello");
  EXPECT_EQ(In(5) & 0x60, 0x60);
  EXPECT_FALSE(irq_.high());
}

TEST_F(SerialTest, AWideAccessIsOneOfEachRegister) {
  const std::vector<uint8_t> data = {'x', 0x05};
  port_.Write(0, data);
  EXPECT_EQ(sink_.text, "x");
  EXPECT_EQ(In(1), 0x05);
  std::vector<uint8_t> all(8);
  port_.Read(0, all);
  EXPECT_EQ(all[5], 0x60);
}

TEST_F(SerialTest, DivisorLatchHidesDataAndInterruptEnable) {
  Out(3, 0x80);
  Out(0, 0x34);
  Out(1, 0x12);
  EXPECT_EQ(In(0), 0x34);
  EXPECT_EQ(In(1), 0x12);
  Out(3, 0x03);
  EXPECT_EQ(In(1), 0);
  EXPECT_EQ(sink_.text, "");
}

// What Linux's autoconfig reads to find a 16550A and none of its relatives (8250_port.c).
TEST_F(SerialTest, LinuxFindsA16550A) {
  Out(1, 0);
  EXPECT_EQ(In(1) & 0x0F, 0);
  Out(1, 0x0F);
  EXPECT_EQ(In(1) & 0x0F, 0x0F);
  Out(1, 0);
  Out(4, 0x10 | 0x0A);  // loopback: CTS and DCD follow RTS and OUT2
  EXPECT_EQ(In(6) & 0xF0, 0x90);
  Out(4, 0);
  Out(3, 0xBF);
  EXPECT_NE(In(2), 0);  // no EFR
  Out(3, 0);
  Out(2, 0x01);
  EXPECT_EQ(In(2) >> 6, 3);
  Out(2, 0x21);
  EXPECT_EQ(In(2) & 0x20, 0);  // no 64-byte FIFO
  Out(1, 0x40);
  EXPECT_EQ(In(1), 0);  // no XScale unit enable
  Out(7, 0xA5);
  EXPECT_EQ(In(7), 0xA5);
}

TEST_F(SerialTest, TransmitInterruptComesOnEnableAndAfterEachByte) {
  Out(1, 0x02);
  EXPECT_TRUE(irq_.high());
  EXPECT_EQ(In(2), 0x02);
  EXPECT_FALSE(irq_.high());
  EXPECT_EQ(In(2), 0x01);
  Out(0, 'a');
  EXPECT_TRUE(irq_.high());
  EXPECT_EQ(irq_.edges(), 2);
  Out(0, 'b');  // without having read IIR: an edge again
  EXPECT_EQ(irq_.edges(), 3);
  Out(1, 0);
  EXPECT_FALSE(irq_.high());
  Out(1, 0x02);  // Linux tests for UARTs that forget this
  EXPECT_TRUE(irq_.high());
}

TEST_F(SerialTest, InputRaisesAndReadingLowersTheLine) {
  Out(2, 0x01);
  Out(1, 0x01);
  EXPECT_EQ(Feed("ab"), 2u);
  EXPECT_TRUE(irq_.high());
  EXPECT_EQ(In(2), 0xC4);
  EXPECT_EQ(In(5) & 1, 1);
  EXPECT_EQ(In(0), 'a');
  EXPECT_TRUE(irq_.high());
  EXPECT_EQ(In(0), 'b');
  EXPECT_FALSE(irq_.high());
  EXPECT_EQ(In(0), 0);
}

TEST_F(SerialTest, BelowTheTriggerLevelItIsATimeout) {
  Out(2, 0xC1);  // 14 bytes
  Out(1, 0x01);
  Feed("x");
  EXPECT_EQ(In(2), 0xCC);
  Feed(std::string(13, 'y'));
  EXPECT_EQ(In(2), 0xC4);
}

TEST_F(SerialTest, LineStatusIsTheMostUrgent) {
  Out(1, 0x0F);
  Out(4, 0x10);
  Out(0, 'a');
  Out(0, 'b');  // overruns: no FIFO
  EXPECT_EQ(In(2), 0x06);
  EXPECT_EQ(In(5), 0x63);
  EXPECT_EQ(In(2), 0x04);
  EXPECT_EQ(In(0), 'a');
  EXPECT_EQ(In(2), 0x02);
  EXPECT_EQ(In(2), 0x00);  // the modem lines changed when the loop closed
  EXPECT_EQ(In(6), 0x0B);  // CTS, DSR and DCD fell
  EXPECT_EQ(In(2), 0x01);
  EXPECT_FALSE(irq_.high());
}

TEST_F(SerialTest, LoopbackKeepsBytesIn) {
  Out(2, 0x01);
  Out(4, 0x10);
  Out(0, 'q');
  Feed("later");
  EXPECT_EQ(sink_.text, "");
  EXPECT_EQ(ReadAll(), "q");
  Out(4, 0);
  Feed("!");
  EXPECT_EQ(ReadAll(), "later!");
}

TEST_F(SerialTest, ClearingTheFifoDropsWhatIsInItOnly) {
  Out(2, 0x01);
  Feed("0123456789abcdefXYZ");
  Out(2, 0x03);
  EXPECT_EQ(ReadAll(), "XYZ");
}

TEST_F(SerialTest, BackpressureAndRoom) {
  Out(2, 0x01);
  const std::string text(5000, 'z');
  EXPECT_EQ(Feed(text), SerialPort::kInputCapacity);
  EXPECT_EQ(Feed("more"), 0u);
  for (size_t i = 0; i < SerialPort::kInputCapacity / 2 - 1; ++i) In(0);
  EXPECT_EQ(rooms_, 0);
  In(0);
  EXPECT_EQ(rooms_, 1);
  ReadAll();
  EXPECT_EQ(rooms_, 1);
  EXPECT_EQ(Feed("more"), 4u);
}

TEST_F(SerialTest, ResetEmptiesEverythingAndGivesRoom) {
  Out(1, 0x01);
  Out(7, 3);
  Feed(std::string(5000, 'z'));
  EXPECT_TRUE(irq_.high());
  port_.Reset();
  EXPECT_FALSE(irq_.high());
  EXPECT_EQ(rooms_, 1);
  EXPECT_EQ(In(5), 0x60);
  EXPECT_EQ(In(7), 0);
}

TEST_F(SerialTest, FeedingFromAnotherThreadLosesNothing) {
  Out(2, 0x01);
  Out(1, 0x01);
  constexpr size_t kTotal = 100000;
  std::thread feeder([this] {
    for (size_t sent = 0; sent < kTotal;) {
      const uint8_t next = static_cast<uint8_t>(sent % 251);
      if (port_.Feed({&next, 1}) == 1)
        ++sent;
      else
        std::this_thread::yield();
    }
  });
  for (size_t got = 0; got < kTotal;) {
    if ((In(5) & 1) == 0) continue;
    ASSERT_EQ(In(0), got % 251);
    ++got;
  }
  feeder.join();
  EXPECT_FALSE(irq_.high());
}

TEST(SerialWithoutPartsTest, NoSinkNoLineNoCallback) {
  SerialPort port({});
  const std::vector<uint8_t> data = {'x', 0x0F};
  port.Write(0, data);
  EXPECT_EQ(port.Feed(data), 2u);
  port.Reset();
}

}  // namespace
}  // namespace drover
