#include "vmm/core/irqchip_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <functional>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using absl::StatusCode;
using testing::AllOf;

PcIrqchipState Pc() {
  PcIrqchipState state;
  state.pic_master.irq_base = 0x30;
  state.ioapic.base_address = 0xFEC00000;
  state.pit.emplace();
  state.pit->channels[0].count = 65536;
  state.pit->channels[0].mode = 0xFF;  // never set
  return state;
}

// The bit layout of crosvm's test of the same name.
TEST(IrqchipState, PeerIoapicState) {
  constexpr uint64_t kBits = uint64_t{0xAA} << 56 | 0xF2FF;
  const IoapicRedirection entry = {kBits};
  EXPECT_EQ(entry.vector(), 0xFF);
  EXPECT_EQ(entry.delivery_mode(), 2);
  EXPECT_FALSE(entry.logical());
  EXPECT_TRUE(entry.bits & IoapicRedirection::kDeliveryPending);
  EXPECT_TRUE(entry.bits & IoapicRedirection::kActiveLow);
  EXPECT_TRUE(entry.bits & IoapicRedirection::kRemoteIrr);
  EXPECT_TRUE(entry.bits & IoapicRedirection::kLevel);
  EXPECT_FALSE(entry.bits & IoapicRedirection::kMasked);
  EXPECT_EQ(entry.destination(), 0xAA);
}

TEST(IrqchipState, KindsMustMatch) {
  PcIrqchipState without_pit = Pc();
  without_pit.pit.reset();
  EXPECT_OK(CheckIrqchipState(Pc(), false, true));
  EXPECT_OK(CheckIrqchipState(without_pit, false, false));
  EXPECT_OK(CheckIrqchipState(SplitIrqchipState{}, true, false));
  for (const absl::Status& refused :
       {CheckIrqchipState(Pc(), false, false), CheckIrqchipState(without_pit, false, true),
        CheckIrqchipState(Pc(), true, false), CheckIrqchipState(SplitIrqchipState{}, false, true)})
    EXPECT_THAT(refused, AllOf(StatusIs(StatusCode::kInvalidArgument), HasErrno(EINVAL)));
}

TEST(IrqchipState, MalformedValues) {
  const std::function<void(PcIrqchipState&)> cases[] = {
      [](PcIrqchipState& s) { s.pic_master.priority_add = 8; },
      [](PcIrqchipState& s) { s.pic_slave.init_state = 4; },
      [](PcIrqchipState& s) { s.pic_slave.irq_base = 0x31; },
      [](PcIrqchipState& s) { s.ioapic.id = 16; },
      [](PcIrqchipState& s) { s.ioapic.irr = 1 << 24; },
      [](PcIrqchipState& s) { s.ioapic.redirections[23].bits = 1 << 17; },
      [](PcIrqchipState& s) { s.ioapic.redirections[0].bits = 1ull << 55; },
      [](PcIrqchipState& s) { s.pit->flags = 4; },
      [](PcIrqchipState& s) { s.pit->channels[1].count = 65537; },
      [](PcIrqchipState& s) { s.pit->channels[2].mode = 8; },
      [](PcIrqchipState& s) { s.pit->channels[2].rw_mode = 4; },
      [](PcIrqchipState& s) { s.pit->channels[0].write_state = 5; },
      [](PcIrqchipState& s) { s.pit->channels[0].gate = 2; },
  };
  int n = 0;
  for (const auto& spoil : cases) {
    PcIrqchipState state = Pc();
    spoil(state);
    EXPECT_THAT(CheckIrqchipState(state), StatusIs(StatusCode::kInvalidArgument)) << n;
    ++n;
  }
}

}  // namespace
}  // namespace drover
