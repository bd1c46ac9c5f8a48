#include "vmm/core/vcpu_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace drover {
namespace {

using testing::HasSubstr;

VcpuState Some() {
  VcpuState state;
  state.msrs = {{0x10A, 1}, {0xC0000103, 42}};
  state.xsave.resize(4096);
  state.lapic.emplace();
  return state;
}

TEST(VcpuState, PeerLapicState) {
  LapicRegisters lapic = {};
  for (uint32_t n = 0; n < 64; ++n) SetLapicRegister(&lapic, n * 16, 0x11223300 + n);
  for (uint32_t n = 0; n < 64; ++n) {
    EXPECT_EQ(LapicRegister(lapic, n * 16), 0x11223300 + n);
    EXPECT_EQ(lapic[n * 16], n) << "little-endian";
    EXPECT_EQ(lapic[n * 16 + 3], 0x11);
    EXPECT_EQ(lapic[n * 16 + 4], 0);
  }
}

TEST(VcpuState, FindMsr) {
  VcpuState state = Some();
  EXPECT_EQ(FindMsr(state, 0xC0000103)->value, 42u);
  EXPECT_EQ(FindMsr(state, 0), nullptr);
  EXPECT_EQ(FindMsr(state, 0xC0000102), nullptr);
  EXPECT_EQ(FindMsr(state, 0xFFFFFFFF), nullptr);
  FindMsr(&state, 0x10A)->value = 7;
  EXPECT_EQ(state.msrs[0].value, 7u);
}

TEST(VcpuState, DifferenceNamesEachPart) {
  const VcpuState a = Some();
  EXPECT_EQ(Difference(a, a), "");
  VcpuState b = a;
  b.msrs[1].value = 43;
  b.xsave[24] = 1;
  (*b.lapic)[0x80] = 2;
  b.regs.r13 = 1;
  const std::string difference = Difference(a, b);
  EXPECT_NE(a, b);
  EXPECT_THAT(difference, HasSubstr("msrs: 0xc0000103=0x2a and 0xc0000103=0x2b"));
  EXPECT_THAT(difference, HasSubstr("xsave: byte 0x18 is 0 and 0x1"));
  EXPECT_THAT(difference, HasSubstr("lapic: byte 0x80"));
  EXPECT_THAT(difference, HasSubstr("regs"));
  b.lapic.reset();
  b.xsave.resize(8192);
  EXPECT_THAT(Difference(a, b), HasSubstr("lapic; "));
}

TEST(VcpuState, Prints) {
  VcpuState state = Some();
  state.regs.rip = 0x1234;
  state.nested = NestedStateBuffer::Idle(NestedFormat::kSvm);
  std::ostringstream out;
  out << state;
  EXPECT_THAT(out.str(), HasSubstr("rip=0x1234"));
  EXPECT_THAT(out.str(), HasSubstr("nested state: flags 0x100 format 1 size 128"));
}

// At 2 GHz the destination's kvmclock is 1 s later; the guest's TSC must be 2e9 cycles later.
TEST(VcpuState, AdjustedTscOffsetKeepsStepWithKvmclock) {
  const ClockMoment source = {.nanos = 5'000'000'000, .host_tsc = 1'000'000};
  const ClockMoment destination = {.nanos = 6'000'000'000, .host_tsc = 77};
  const uint64_t offset = 123;
  const uint64_t adjusted = AdjustedTscOffset(offset, 2'000'000, source, destination);
  EXPECT_EQ(destination.host_tsc + adjusted, source.host_tsc + offset + 2'000'000'000);
  EXPECT_EQ(AdjustedTscOffset(offset, 2'000'000, source, source), offset);
  const uint64_t back = AdjustedTscOffset(adjusted, 2'000'000, destination, source);
  EXPECT_EQ(back, offset);
}

TEST(VcpuState, AdjustedTscOffsetAfterAYear) {
  const uint64_t year = uint64_t{365} * 86400 * 1'000'000'000;
  EXPECT_EQ(AdjustedTscOffset(0, 4'000'000, {}, {.nanos = year}), year * 4);
}

}  // namespace
}  // namespace drover
