#include "vmm/core/io_bus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using absl::StatusCode;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

// Answers reads with its number, notes the last write.
class NotingDevice : public IoDevice {
 public:
  explicit NotingDevice(uint8_t number) : number_(number) {}
  absl::string_view name() const override { return "noting"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override {
    last_offset = offset;
    for (uint8_t& byte : data) byte = number_;
  }
  void Write(uint64_t offset, std::span<const uint8_t> data) override {
    last_offset = offset;
    written.assign(data.begin(), data.end());
  }

  uint64_t last_offset = ~uint64_t{0};
  std::vector<uint8_t> written;

 private:
  const uint8_t number_;
};

TEST(IoBus, RoutesByAddress) {
  NotingDevice a(1), b(2);
  IoBus bus;
  ASSERT_OK(bus.Add(0x3f8, 8, &a));
  ASSERT_OK(bus.Add(0x400, 4, &b));
  uint8_t byte = 0;
  bus.Read(0x3fa, {&byte, 1});
  EXPECT_EQ(byte, 1);
  EXPECT_EQ(a.last_offset, 2u);
  const uint8_t data[] = {7, 8};
  bus.Write(0x402, data);
  EXPECT_THAT(b.written, ElementsAre(7, 8));
  EXPECT_EQ(b.last_offset, 2u);
}

TEST(IoBus, NobodyReadsAsOnes) {
  NotingDevice a(1);
  IoBus bus;
  ASSERT_OK(bus.Add(0x10, 4, &a));
  for (const uint64_t address : {0x0full, 0x14ull, 0x13ull, ~0ull}) {
    uint8_t data[2] = {};
    bus.Read(address, data);
    EXPECT_THAT(data, Each(0xff)) << address;
    bus.Write(address, data);
  }
  EXPECT_THAT(a.written, testing::IsEmpty()) << "an access over its end is not its own";
}

TEST(IoBus, RangesMayTouchButNotOverlap) {
  NotingDevice a(1), b(2);
  IoBus bus;
  ASSERT_OK(bus.Add(0x10, 0x10, &a));
  EXPECT_THAT(bus.Add(0x1f, 1, &b), StatusIs(StatusCode::kAlreadyExists, HasSubstr("noting")));
  EXPECT_THAT(bus.Add(0x0f, 2, &b), StatusIs(StatusCode::kAlreadyExists));
  EXPECT_THAT(bus.Add(0x10, 0x10, &b), StatusIs(StatusCode::kAlreadyExists));
  EXPECT_THAT(bus.Add(0x00, 0x100, &b), StatusIs(StatusCode::kAlreadyExists));
  EXPECT_OK(bus.Add(0x20, 1, &b));
  EXPECT_OK(bus.Add(0x0f, 1, &b));
}

TEST(IoBus, RefusesEmptyAndWrappingRanges) {
  NotingDevice a(1);
  IoBus bus;
  EXPECT_THAT(bus.Add(0x10, 0, &a), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(bus.Add(~uint64_t{0}, 2, &a), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_OK(bus.Add(~uint64_t{0}, 1, &a));
  uint8_t byte = 0;
  bus.Read(~uint64_t{0}, {&byte, 1});
  EXPECT_EQ(byte, 1);
}

}  // namespace
}  // namespace drover
