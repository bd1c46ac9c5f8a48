// The dirty log over the fake, and what only a fake can be made to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/status.h"
#include "vmm/base/status_matchers.h"
#include "vmm/core/testing/dirty_suite.h"
#include "vmm/core/testing/fake_hypervisor.h"

namespace drover {
namespace {

using absl::StatusCode;

class FakeGuestWriter : public GuestWriter {
 public:
  FakeGuestWriter(FakeVm* vm, uint32_t id) : vm_(vm), id_(id) {}

  absl::Status Write(std::span<const uint64_t> addresses, uint32_t value, DirtyLog* log) override {
    const std::span bytes(reinterpret_cast<const uint8_t*>(&value), sizeof(value));
    for (const uint64_t address : addresses) {
      FakeWrite result = vm_->WriteAsVcpu(id_, address, bytes);
      while (result == FakeWrite::kRingFull) {
        ++full_exits_;
        RETURN_IF_ERROR(log->HandleRingFull());
        result = vm_->WriteAsVcpu(id_, address, bytes);
      }
      if (result != FakeWrite::kDone) return absl::InternalError("the guest wrote to no memory");
    }
    return absl::OkStatus();
  }

 private:
  FakeVm* const vm_;
  const uint32_t id_;
};

DirtyFactory Fake() {
  return {.name = "",
          .options = {},
          .make = [] { return std::make_unique<FakeHypervisor>(); },
          .make_writer = [](Vm& vm, uint32_t id,
                            uint32_t) -> absl::StatusOr<std::unique_ptr<GuestWriter>> {
            return std::make_unique<FakeGuestWriter>(static_cast<FakeVm*>(&vm), id);
          },
          .writers = 2};
}

INSTANTIATE_TEST_SUITE_P(Fake, DirtySuite, testing::ValuesIn(WithAllKinds(Fake())),
                         [](const auto& info) { return info.param.name; });

class DirtyChoice : public testing::Test {
 protected:
  std::unique_ptr<Vm> MakeVm() {
    hypervisor_ = std::make_unique<FakeHypervisor>(capabilities_);
    return hypervisor_->CreateVm(GuestMemory::Create({{0, 1 << 20}}).value()).value();
  }
  DirtyLogChoice ChoiceOf(DirtySourceOptions options) {
    const std::unique_ptr<Vm> vm = MakeVm();
    return DirtyLog::Create({.vm = vm.get(), .source = options}).value()->choice();
  }

  BackendCapabilities capabilities_ = FakeHypervisor::DefaultCapabilities();
  std::unique_ptr<FakeHypervisor> hypervisor_;
};

TEST_F(DirtyChoice, AutomaticIsTheBitmapWhereItStartsAtOnce) {
  EXPECT_EQ(ChoiceOf({}), (DirtyLogChoice{.manual_protect = true, .initially_set = true}));
  capabilities_.manual_dirty_log_protect = 1;
  EXPECT_EQ(ChoiceOf({}), (DirtyLogChoice{.manual_protect = true}));
  capabilities_.manual_dirty_log_protect = 0;
  EXPECT_EQ(ChoiceOf({}), (DirtyLogChoice{.kind = DirtyLogKind::kRing, .ring_pages = 65536}));
  capabilities_.dirty_ring_bytes = 0;
  EXPECT_EQ(ChoiceOf({}).reason, DirtyLogReason::kNoRing);
}

TEST_F(DirtyChoice, RingsHaveTheSizeAskedForOrTheLargest) {
  EXPECT_EQ(ChoiceOf({.kind = DirtyLogWish::kRing, .ring_bytes = 8192}).ring_pages, 512u);
  EXPECT_EQ(ChoiceOf({.kind = DirtyLogWish::kRing, .ring_bytes = 1 << 30}).ring_pages, 65536u);
  const std::unique_ptr<Vm> vm = MakeVm();
  for (const uint32_t bad : {1u, 2048u, 4097u, 12288u})
    EXPECT_THAT(DirtyLog::Create({.vm = vm.get(), .source = {.ring_bytes = bad}}),
                StatusIs(StatusCode::kInvalidArgument));
  EXPECT_OK(DirtyLog::Create({.vm = vm.get()})) << "a refusal leaves no log open";
}

TEST_F(DirtyChoice, FallsBackAndSaysWhy) {
  const DirtySourceOptions ring = {.kind = DirtyLogWish::kRing};
  const std::unique_ptr<Vm> vm = MakeVm();
  hypervisor_->host().Fail("OpenDirtyRing", absl::InternalError("withdrawn"));
  {
    const auto log = DirtyLog::Create({.vm = vm.get(), .source = ring}).value();
    EXPECT_EQ(log->choice().reason, DirtyLogReason::kRingRefused);
    EXPECT_EQ(log->choice().kind, DirtyLogKind::kBitmap);
    EXPECT_TRUE(log->choice().fallback());
  }
  const auto vcpu = vm->CreateVcpu(0, 1).value();
  EXPECT_EQ(DirtyLog::Create({.vm = vm.get(), .source = ring}).value()->choice().reason,
            DirtyLogReason::kVcpusExist);
  capabilities_.dirty_ring_bytes = 0;
  EXPECT_EQ(ChoiceOf(ring).reason, DirtyLogReason::kNoRing);
}

TEST_F(DirtyChoice, RingsStayOn) {
  const std::unique_ptr<Vm> vm = MakeVm();
  { const auto log = DirtyLog::Create({.vm = vm.get(), .source = {DirtyLogWish::kRing}}).value(); }
  const auto log = DirtyLog::Create({.vm = vm.get(), .source = {DirtyLogWish::kBitmap}}).value();
  EXPECT_EQ(log->choice().kind, DirtyLogKind::kRing);
  EXPECT_EQ(log->choice().reason, DirtyLogReason::kRingAlreadyOn);
  EXPECT_FALSE(log->choice().fallback());
}

TEST_F(DirtyChoice, RefusesWhatCannotLog) {
  capabilities_.dirty_page_tracking = false;
  EXPECT_THAT(DirtyLog::Create({.vm = MakeVm().get()}), StatusIs(StatusCode::kUnimplemented));
  capabilities_.dirty_page_tracking = true;
  const std::unique_ptr<Vm> vm = MakeVm();
  ASSERT_OK(vm->SetDirtyLogging(0, true));
  EXPECT_THAT(DirtyLog::Create({.vm = vm.get()}), StatusIs(StatusCode::kFailedPrecondition));
}

TEST_F(DirtyChoice, AFailedHarvestLosesNothing) {
  const std::unique_ptr<Vm> vm = MakeVm();
  const auto log = DirtyLog::Create({.vm = vm.get()}).value();
  ASSERT_OK(log->Start());
  const uint8_t byte = 1;
  ASSERT_TRUE(static_cast<FakeVm*>(vm.get())->TouchAsGuest(0x5000, {&byte, 1}));
  ASSERT_OK(vm->memory().Write(0x7000, {&byte, 1}));
  PageSet set;
  hypervisor_->host().Fail("HarvestDirty", absl::InternalError("KVM_CLEAR_DIRTY_LOG"));
  EXPECT_THAT(log->Harvest(&set), StatusIs(StatusCode::kInternal));
  EXPECT_TRUE(set.empty());
  hypervisor_->host().Fail("HarvestDirty", absl::OkStatus());
  ASSERT_OK(log->Harvest(&set));
  EXPECT_THAT(set.Ranges(),
              testing::ElementsAre(GuestRange{0x5000, 4096}, GuestRange{0x7000, 4096}));
}

TEST_F(DirtyChoice, AFailedStartLeavesNothingLogging) {
  const std::unique_ptr<Vm> vm = MakeVm();
  const auto log = DirtyLog::Create({.vm = vm.get()}).value();
  hypervisor_->host().Fail("PrepareDirty", absl::InternalError("KVM_ENABLE_CAP"));
  EXPECT_THAT(log->Start(), StatusIs(StatusCode::kInternal));
  EXPECT_THAT(log->StartSlot(0), StatusIs(StatusCode::kInternal));
  hypervisor_->host().Fail("PrepareDirty", absl::OkStatus());
  PageSet set;
  EXPECT_THAT(log->Harvest(&set), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_OK(log->Start());
}

}  // namespace
}  // namespace drover
