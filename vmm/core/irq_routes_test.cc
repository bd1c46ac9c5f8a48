#include "vmm/core/irq_routes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using absl::StatusCode;
using Chip = IrqchipPin::Chip;

TEST(IrqRoutes, PcHasBothControllersForTheFirstSixteen) {
  const IrqRoutes pc = IrqRoutes::Pc();
  EXPECT_EQ(pc.routes().size(), 40u);
  EXPECT_TRUE(pc.has_pins());
  IrqRoutes copy = pc;
  EXPECT_THAT(copy.AddPin(9, {Chip::kPicSlave, 1}), StatusIs(StatusCode::kAlreadyExists));
  EXPECT_OK(copy.AddPin(20, {Chip::kPicMaster, 1}));
  EXPECT_OK(copy.Remove(20));
  EXPECT_OK(copy.AddPin(20, {Chip::kIoapic, 20}));
}

TEST(IrqRoutes, PinsAndMessagesDoNotShareAnInterrupt) {
  IrqRoutes routes;
  ASSERT_OK(routes.AddPin(4, {Chip::kIoapic, 4}));
  EXPECT_OK(routes.AddPin(4, {Chip::kPicMaster, 4})) << "one of each chip";
  EXPECT_THAT(routes.AddPin(4, {Chip::kIoapic, 5}), StatusIs(StatusCode::kAlreadyExists));
  EXPECT_THAT(routes.AddMsi(4, {}), StatusIs(StatusCode::kAlreadyExists));
  EXPECT_THAT(routes.SetMsi(4, {}), StatusIs(StatusCode::kAlreadyExists));
  ASSERT_OK(routes.AddMsi(24, {0xFEE00000, 0x41}));
  EXPECT_THAT(routes.AddMsi(24, {}), StatusIs(StatusCode::kAlreadyExists));
  EXPECT_THAT(routes.AddPin(24, {Chip::kIoapic, 5}), StatusIs(StatusCode::kAlreadyExists));
  EXPECT_EQ(routes.routes().size(), 3u);
}

TEST(IrqRoutes, SetMsiAddsAndReplaces) {
  IrqRoutes routes;
  ASSERT_OK(routes.SetMsi(24, {0xFEE00000, 0x41}));
  ASSERT_OK(routes.SetMsi(24, {0xFEE01000, 0x42}));
  ASSERT_EQ(routes.routes().size(), 1u);
  EXPECT_EQ(routes.routes()[0], (IrqRoute{24, MsiMessage{0xFEE01000, 0x42}}));
  EXPECT_FALSE(routes.has_pins());
}

TEST(IrqRoutes, Limits) {
  IrqRoutes routes;
  EXPECT_THAT(routes.AddPin(0, {Chip::kIoapic, 24}), StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(routes.AddPin(0, {Chip::kPicSlave, 8}), StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(routes.AddPin(4096, {}), StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(routes.AddMsi(~0u, {}), StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(routes.Remove(3), StatusIs(StatusCode::kNotFound));
  for (uint32_t gsi = 0; gsi < IrqRoutes::kMaxGsi; ++gsi) ASSERT_OK(routes.AddMsi(gsi, {}));
  EXPECT_THAT(routes.AddPin(7, {}), StatusIs(StatusCode::kOutOfRange)) << "the table is full";
}

}  // namespace
}  // namespace drover
