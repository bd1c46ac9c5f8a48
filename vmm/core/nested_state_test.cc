#include "vmm/core/nested_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;

constexpr size_t kHeader = NestedStateBuffer::kHeaderBytes;
constexpr size_t kPage = NestedStateBuffer::kPageBytes;
constexpr size_t kAll = NestedStateBuffer::kBytes;

// An SVM nested guest that runs.
NestedStateBuffer Svm() {
  NestedStateBuffer state = NestedStateBuffer::Idle(NestedFormat::kSvm);
  state.flags = kNestedGuestMode | kNestedGifSet;
  state.size = kHeader + kPage;
  state.SetSvm({.vmcb_pa = 0x5000});
  state.data[0] = 0x11;
  state.data[kPage - 1] = 0x22;
  return state;
}

// A VMX nested guest that runs, with a shadow VMCS.
NestedStateBuffer Vmx() {
  NestedStateBuffer state = NestedStateBuffer::Idle(NestedFormat::kVmx);
  state.flags = kNestedGuestMode;
  state.size = kAll;
  state.SetVmx({.vmxon_pa = 0x1000, .vmcs12_pa = 0x2000});
  state.data[kPage] = 0x33;
  return state;
}

absl::Status Check(const NestedStateBuffer& state) {
  return state.Check(static_cast<NestedFormat>(state.format), kAll);
}

TEST(NestedState, EmptyIsReadyForKvm) {
  const NestedStateBuffer empty = NestedStateBuffer::Empty();
  EXPECT_EQ(empty.size, 8320u);
  EXPECT_EQ(empty.flags, 0);
  EXPECT_EQ(empty.format, 0);
  EXPECT_EQ(sizeof(empty), 128u + 8192u);
}

TEST(NestedState, HeadersLieWhereTheKernelHasThem) {
  NestedStateBuffer state = NestedStateBuffer::Empty();
  state.SetVmx({.vmxon_pa = 0x1122334455667788,
                .vmcs12_pa = 2,
                .smm_flags = 3,
                .flags = 1,
                .preemption_timer_deadline = 5});
  const std::span<const uint8_t> bytes = state.content();
  EXPECT_EQ(bytes[8], 0x88);
  EXPECT_EQ(bytes[15], 0x11);
  EXPECT_EQ(bytes[16], 2);
  EXPECT_EQ(bytes[24], 3);
  EXPECT_EQ(bytes[28], 1);
  EXPECT_EQ(bytes[32], 5);
  state.SetSvm({.vmcb_pa = 0x99});
  EXPECT_EQ(bytes[8], 0x99);
  EXPECT_EQ(state.svm().vmcb_pa, 0x99u);
}

TEST(NestedState, BytesThereAndBack) {
  for (const NestedStateBuffer& state :
       {Svm(), Vmx(), NestedStateBuffer::Idle(NestedFormat::kSvm),
        NestedStateBuffer::Idle(NestedFormat::kVmx), NestedStateBuffer::Empty()}) {
    EXPECT_EQ(state.content().size(), state.size);
    EXPECT_THAT(NestedStateBuffer::FromBytes(state.content()), IsOkAndHolds(state));
  }
}

TEST(NestedState, FromBytesRefusesWrongSizes) {
  const NestedStateBuffer state = Svm();
  std::vector<uint8_t> bytes(state.content().begin(), state.content().end());
  bytes.pop_back();
  EXPECT_THAT(NestedStateBuffer::FromBytes(bytes), StatusIs(StatusCode::kInvalidArgument));
  bytes.resize(kAll + 1);
  EXPECT_THAT(NestedStateBuffer::FromBytes(bytes), StatusIs(StatusCode::kInvalidArgument));
  bytes.resize(kHeader - 1);
  EXPECT_THAT(NestedStateBuffer::FromBytes(bytes), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(NestedStateBuffer::FromBytes({}), StatusIs(StatusCode::kInvalidArgument));
}

TEST(NestedState, TooSmallRoomIsToldTheSizeNeeded) {
  std::vector<uint8_t> room(kHeader + kPage - 1, 0xEE);
  const absl::Status refused = Svm().CopyTo(room);
  EXPECT_THAT(refused, HasErrno(E2BIG));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("4224 bytes needed"));
  EXPECT_THAT(room, testing::Each(0xEE));
  room.resize(kHeader + kPage);
  EXPECT_OK(Svm().CopyTo(room));
  EXPECT_THAT(NestedStateBuffer::FromBytes(room), IsOkAndHolds(Svm()));
}

TEST(NestedState, WhatLiesBehindTheSizeDoesNotCount) {
  NestedStateBuffer a = NestedStateBuffer::Idle(NestedFormat::kSvm), b = a;
  b.data[0] = 1;
  EXPECT_EQ(a, b);
  b.header[100] = 1;
  EXPECT_NE(a, b);
  EXPECT_NE(Svm(), Vmx());
}

// Named states that KVM takes: the header alone is a state too.
struct Case {
  std::string name;
  NestedStateBuffer state;
};

NestedStateBuffer With(NestedStateBuffer state, const std::function<void(NestedStateBuffer&)>& f) {
  f(state);
  return state;
}

NestedStateBuffer WithVmx(NestedStateBuffer state, const VmxNestedHeader& vmx) {
  state.SetVmx(vmx);
  return state;
}

NestedStateBuffer VmxHeader(const VmxNestedHeader& vmx) {
  return WithVmx(NestedStateBuffer::Idle(NestedFormat::kVmx), vmx);
}

TEST(NestedState, GoodStates) {
  const Case cases[] = {
      {"SVM, no hypervisor", NestedStateBuffer::Idle(NestedFormat::kSvm)},
      {"SVM, GIF clear",
       With(NestedStateBuffer::Idle(NestedFormat::kSvm), [](auto& s) { s.flags = 0; })},
      {"SVM, nested guest", Svm()},
      {"SVM, VMRUN pending", With(Svm(), [](auto& s) { s.flags |= kNestedRunPending; })},
      {"VMX, no VMXON", NestedStateBuffer::Idle(NestedFormat::kVmx)},
      {"VMX, VMXON without a current VMCS", VmxHeader({.vmxon_pa = 0x1000})},
      {"VMX, nested guest with shadow VMCS", Vmx()},
      {"VMX, nested guest", With(Vmx(), [](auto& s) { s.size = kHeader + kPage; })},
      {"VMX, current VMCS, no guest", With(Vmx(), [](auto& s) { s.flags = 0; })},
      {"VMX, MTF pending", With(Vmx(), [](auto& s) { s.flags |= kNestedMtfPending; })},
      {"VMX, preemption timer", WithVmx(Vmx(), {.vmxon_pa = 0x1000,
                                                .vmcs12_pa = 0x2000,
                                                .flags = VmxNestedHeader::kPreemptionTimerDeadline,
                                                .preemption_timer_deadline = 77})},
      {"VMX, interrupted by SMM",
       With(WithVmx(Vmx(), {.vmxon_pa = 0x1000, .vmcs12_pa = 0x2000, .smm_flags = 3}),
            [](auto& s) { s.flags = 0; })},
  };
  for (const Case& c : cases) EXPECT_OK(Check(c.state)) << c.name;
}

TEST(NestedState, BadStates) {
  const Case cases[] = {
      {"size 0", With(Svm(), [](auto& s) { s.size = 0; })},
      {"less than a header", With(Svm(), [](auto& s) { s.size = kHeader - 1; })},
      {"cut off", With(Svm(), [](auto& s) { s.size -= 1; })},
      {"more than fits", With(Vmx(), [](auto& s) { s.size += kPage; })},
      {"an unknown flag", With(Svm(), [](auto& s) { s.flags |= 1 << 9; })},
      {"a flag of VMX with SVM", With(Svm(), [](auto& s) { s.flags |= kNestedMtfPending; })},
      {"a flag of SVM with VMX", With(Vmx(), [](auto& s) { s.flags |= kNestedGifSet; })},
      {"run pending without guest", With(Svm(), [](auto& s) { s.flags = kNestedRunPending; })},
      {"SVM with two pages", With(Svm(), [](auto& s) { s.size = kAll; })},
      {"SVM guest without VMCB", With(Svm(), [](auto& s) { s.size = kHeader; })},
      {"SVM, VMCB unaligned", With(Svm(), [](auto& s) { s.SetSvm({.vmcb_pa = 0x5001}); })},
      {"VMX guest without VMXON", WithVmx(Vmx(), {.vmcs12_pa = 0x2000})},
      {"VMX guest without VMCS", WithVmx(Vmx(), {.vmxon_pa = 0x1000})},
      {"VMX guest without data", With(Vmx(), [](auto& s) { s.size = kHeader; })},
      {"VMX, current VMCS without data", VmxHeader({.vmxon_pa = 0x1000, .vmcs12_pa = 0x2000})},
      {"VMX, VMXON unaligned", VmxHeader({.vmxon_pa = 0x1008})},
      {"VMX, VMCS unaligned", WithVmx(Vmx(), {.vmxon_pa = 0x1000, .vmcs12_pa = 0x2008})},
      {"VMX, VMCS is the VMXON region", WithVmx(Vmx(), {.vmxon_pa = 0x1000, .vmcs12_pa = 0x1000})},
      {"VMX, SMM flags", VmxHeader({.vmxon_pa = 0x1000, .smm_flags = 4})},
      {"VMX, SMM without VMXON", VmxHeader({.smm_flags = VmxNestedHeader::kSmmVmxon})},
      {"VMX, guest in and out of SMM",
       WithVmx(Vmx(), {.vmxon_pa = 0x1000, .vmcs12_pa = 0x2000, .smm_flags = 3})},
      {"VMX, header flags", VmxHeader({.vmxon_pa = 0x1000, .flags = 2})},
  };
  for (const Case& c : cases)
    EXPECT_THAT(Check(c.state), AllOf(StatusIs(StatusCode::kInvalidArgument), HasErrno(EINVAL)))
        << c.name;
}

TEST(NestedState, AnotherVendorOrASmallerHost) {
  EXPECT_THAT(Svm().Check(NestedFormat::kVmx, kAll), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(Vmx().Check(NestedFormat::kSvm, kAll), StatusIs(StatusCode::kInvalidArgument));
  NestedStateBuffer neither = Svm();
  neither.format = 2;
  EXPECT_THAT(neither.Check(NestedFormat::kSvm, kAll), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_OK(Svm().Check(NestedFormat::kSvm, 4224));
  EXPECT_THAT(Svm().Check(NestedFormat::kSvm, 4223), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(Svm().Check(NestedFormat::kSvm, 0), StatusIs(StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace drover
