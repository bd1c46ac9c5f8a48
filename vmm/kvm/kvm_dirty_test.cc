// The dirty log over /dev/kvm, with a guest in ring 3 that writes.
#include <gtest/gtest.h>

#include "vmm/base/status_matchers.h"
#include "vmm/core/testing/dirty_suite.h"
#include "vmm/kvm/testing/kvm_for_test.h"
#include "vmm/kvm/testing/writer_guest.h"

namespace drover {
namespace {

INSTANTIATE_TEST_SUITE_P(
    Kvm, DirtySuite,
    testing::ValuesIn(WithAllKinds(
        {.name = "",
         .options = {},
         .make = []() -> absl::StatusOr<std::unique_ptr<Hypervisor>> { return OpenKvmForTest(); },
         .make_writer = [](Vm& vm, uint32_t, uint32_t) { return WriterGuest::Create(vm); },
         .writers = 1})),
    [](const auto& info) { return info.param.name; });

TEST(KvmDirtyLog, RingAfterTheFirstVcpuFallsBack) {
  auto hypervisor = OpenKvmForTest();
  if (absl::IsUnavailable(hypervisor.status())) GTEST_SKIP() << "SKIPPED: " << hypervisor.status();
  ASSERT_OK(hypervisor);
  const auto vm = (*hypervisor)->CreateVm(GuestMemory::Create({{0, 1 << 20}}).value()).value();
  const auto vcpu = vm->CreateVcpu(0, 1).value();
  const auto log =
      DirtyLog::Create({.vm = vm.get(), .source = {.kind = DirtyLogWish::kRing}}).value();
  EXPECT_EQ(log->choice().kind, DirtyLogKind::kBitmap);
  EXPECT_TRUE(log->choice().fallback()) << log->choice();
}

// A log leaves KVM's bitmap as Vm::GetDirtyLog has it: reading clears.
TEST(KvmDirtyLog, VmReadsItsOwnBitmapAfterwards) {
  auto hypervisor = OpenKvmForTest();
  if (absl::IsUnavailable(hypervisor.status())) GTEST_SKIP() << "SKIPPED: " << hypervisor.status();
  ASSERT_OK(hypervisor);
  const auto vm = (*hypervisor)->CreateVm(GuestMemory::Create({{0, 1 << 20}}).value()).value();
  const auto guest = WriterGuest::Create(*vm).value();
  {
    const auto log =
        DirtyLog::Create({.vm = vm.get(), .source = {.kind = DirtyLogWish::kBitmap}}).value();
    ASSERT_OK(log->Start(DirtyStart::kAll));
  }
  ASSERT_OK(vm->SetDirtyLogging(0, true));
  const uint64_t address = 0x50000;
  ASSERT_OK(guest->Write({&address, 1}, 1, nullptr));
  std::vector<uint8_t> bitmap(32), none(32);
  ASSERT_OK(vm->GetDirtyLog(0, bitmap));
  EXPECT_EQ(bitmap[0x50 / 8], 1);
  ASSERT_OK(vm->GetDirtyLog(0, bitmap));
  EXPECT_EQ(bitmap, none);
}

}  // namespace
}  // namespace drover
