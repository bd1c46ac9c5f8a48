#include "vmm/core/vcpu_state_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <functional>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;

CpuidEntry VendorLeaf(const char* name) {
  CpuidEntry entry;
  memcpy(&entry.ebx, name, 4);
  memcpy(&entry.edx, name + 4, 4);
  memcpy(&entry.ecx, name + 8, 4);
  return entry;
}

constexpr uint32_t kMsrs[] = {0x174, 0x277, 0xC0000103};

VcpuStateLimits Limits() {
  return {.id = 1,
          .vendor = "AuthenticAMD",
          .tsc_khz = 2'000'000,
          .tsc_offset = true,
          .xsave_bytes = 4096,
          .xcrs = true,
          .lapic = true,
          .nested_state_bytes = 4224,
          .msrs = kMsrs,
          .fixed_cpuid = std::nullopt};
}

VcpuState Good() {
  VcpuState state;
  state.id = 1;
  state.cpuid = {VendorLeaf("AuthenticAMD"),
                 {.leaf = 4, .subleaf = 0, .flags = 1},
                 {.leaf = 4, .subleaf = 1, .flags = 1}};
  state.tsc = {.khz = 2'000'000, .offset = 5, .value = 9};
  state.xcrs = {{0, 7}};
  state.xsave.resize(4096);
  state.lapic.emplace();
  state.msrs = {{0x174, 1}, {0xC0000103, 2}};
  state.nested = NestedStateBuffer::Idle(NestedFormat::kSvm);
  return state;
}

TEST(VcpuStateCheck, Good) {
  EXPECT_OK(CheckVcpuState(Good(), Limits()));
  VcpuStateLimits ran = Limits();
  ran.fixed_cpuid = Good().cpuid;
  EXPECT_OK(CheckVcpuState(Good(), ran));
  VcpuState spare = Good();
  spare.nested.reset();
  spare.tsc.offset.reset();
  spare.xcrs.clear();
  EXPECT_OK(CheckVcpuState(spare, Limits()));
}

TEST(VcpuStateCheck, EveryMalformedPartIsNamed) {
  const struct {
    const char* part;
    std::function<void(VcpuState&)> spoil;
  } cases[] = {
      {"id", [](VcpuState& s) { s.id = 0; }},
      {"cpuid", [](VcpuState& s) { s.cpuid.clear(); }},
      {"cpuid", [](VcpuState& s) { s.cpuid.resize(257); }},
      {"cpuid", [](VcpuState& s) { s.cpuid.push_back(s.cpuid[0]); }},
      {"cpuid", [](VcpuState& s) { s.cpuid.push_back({.leaf = 4, .subleaf = 1, .flags = 1}); }},
      {"vendor", [](VcpuState& s) { s.cpuid[0] = VendorLeaf("GenuineIntel"); }},
      {"tsc", [](VcpuState& s) { s.tsc.khz = 0; }},
      {"sregs", [](VcpuState& s) { s.sregs.cs.type = 16; }},
      {"sregs", [](VcpuState& s) { s.sregs.tr.dpl = 4; }},
      {"sregs", [](VcpuState& s) { s.sregs.ldt.present = 2; }},
      {"sregs", [](VcpuState& s) { s.sregs.cr8 = 16; }},
      {"sregs", [](VcpuState& s) { s.sregs.cr0 = 1u << 31; }},
      {"sregs", [](VcpuState& s) { s.sregs.efer = 1 << 10; }},
      {"sregs", [](VcpuState& s) { s.sregs.cs.l = 1; }},
      {"sregs", [](VcpuState& s) { s.sregs.cr0 = 0x80000001, s.sregs.efer = 1 << 8; }},
      {"xcrs",
       [](VcpuState& s) {
         s.xcrs = {{0, 6}};
       }},
      {"xcrs",
       [](VcpuState& s) {
         s.xcrs = {{1, 1}};
       }},
      {"xcrs",
       [](VcpuState& s) {
         s.xcrs = {{0, 1}, {0, 1}};
       }},
      {"xcrs", [](VcpuState& s) { s.xcrs.resize(17); }},
      {"xsave", [](VcpuState& s) { s.xsave.clear(); }},
      {"xsave", [](VcpuState& s) { s.xsave.resize(4095); }},
      {"xsave", [](VcpuState& s) { s.xsave.resize(8192); }},
      {"debug", [](VcpuState& s) { s.debug.dr6 = 1ull << 32; }},
      {"debug", [](VcpuState& s) { s.debug.dr7 = 1ull << 32; }},
      {"lapic", [](VcpuState& s) { s.lapic.reset(); }},
      {"msrs",
       [](VcpuState& s) {
         s.msrs = {{0xC0000103, 2}, {0x174, 1}};
       }},
      {"msrs",
       [](VcpuState& s) {
         s.msrs = {{0x174, 1}, {0x174, 1}};
       }},
      {"MSR 0xffffffff (value 0x7)",
       [](VcpuState& s) {
         s.msrs.push_back({~0u, 7});
       }},
      {"nested", [](VcpuState& s) { s.nested->size = 1; }},
      {"nested", [](VcpuState& s) { s.nested = NestedStateBuffer::Idle(NestedFormat::kVmx); }},
      {"events", [](VcpuState& s) { s.events.flags = 0x10; }},
      {"events", [](VcpuState& s) { s.events.exception = {.injected = 1, .vector = 32}; }},
      {"events", [](VcpuState& s) { s.events.exception = {.pending = 1, .vector = 2}; }},
      {"mp_state", [](VcpuState& s) { s.mp_state = static_cast<MpState>(5); }},
  };
  for (const auto& [part, spoil] : cases) {
    VcpuState state = Good();
    spoil(state);
    const absl::Status refused = CheckVcpuState(state, Limits());
    EXPECT_THAT(refused, AllOf(StatusIs(StatusCode::kInvalidArgument), HasErrno(EINVAL))) << part;
    EXPECT_THAT(std::string(refused.message()), HasSubstr(part));
  }
}

TEST(VcpuStateCheck, WhatTheHostHasNot) {
  VcpuStateLimits limits = Limits();
  limits.lapic = false;
  EXPECT_THAT(CheckVcpuState(Good(), limits), StatusIs(StatusCode::kInvalidArgument));
  VcpuState bare = Good();
  bare.lapic.reset();
  EXPECT_OK(CheckVcpuState(bare, limits));
  bare.mp_state = MpState::kHalted;
  EXPECT_THAT(CheckVcpuState(bare, limits), StatusIs(StatusCode::kInvalidArgument));
  limits = Limits();
  limits.nested_state_bytes = 0;
  EXPECT_THAT(CheckVcpuState(Good(), limits), StatusIs(StatusCode::kInvalidArgument));
  limits = Limits();
  limits.xcrs = false;
  EXPECT_THAT(CheckVcpuState(Good(), limits), StatusIs(StatusCode::kInvalidArgument));
  limits = Limits();
  limits.tsc_offset = false;
  EXPECT_THAT(CheckVcpuState(Good(), limits), StatusIs(StatusCode::kInvalidArgument));
  limits = Limits();
  limits.fixed_cpuid = Good().cpuid;
  limits.fixed_cpuid->push_back({.leaf = 1, .ecx = 1u << 27});
  VcpuState ran = Good();
  ran.cpuid.push_back({.leaf = 1});
  EXPECT_OK(CheckVcpuState(ran, limits)) << "OSXSAVE follows CR4";
  limits.fixed_cpuid->pop_back();
  limits.fixed_cpuid->back().eax = 1;
  EXPECT_THAT(CheckVcpuState(Good(), limits), StatusIs(StatusCode::kInvalidArgument));
}

TEST(VcpuStateCheck, AnotherTscFrequencyNeedsControlOfIt) {
  VcpuState state = Good();
  state.tsc.khz += 499;
  EXPECT_OK(CheckVcpuState(state, Limits())) << "within 250 ppm";
  state.tsc.khz += 2;
  EXPECT_THAT(CheckVcpuState(state, Limits()), StatusIs(StatusCode::kUnimplemented));
  VcpuStateLimits limits = Limits();
  limits.tsc_control = true;
  EXPECT_OK(CheckVcpuState(state, limits));
}

TEST(VcpuStateCheck, Vendors) {
  EXPECT_EQ(CpuidVendor({}), "");
  EXPECT_EQ(CpuidVendor({VendorLeaf("HygonGenuine")}), "HygonGenuine");
  EXPECT_EQ(NestedFormatOf({VendorLeaf("HygonGenuine")}), NestedFormat::kSvm);
  EXPECT_EQ(NestedFormatOf({VendorLeaf("AuthenticAMD")}), NestedFormat::kSvm);
  EXPECT_EQ(NestedFormatOf({VendorLeaf("GenuineIntel")}), NestedFormat::kVmx);
}

}  // namespace
}  // namespace drover
