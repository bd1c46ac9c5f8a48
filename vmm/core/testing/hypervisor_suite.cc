#include "vmm/core/testing/hypervisor_suite.h"

#include "vmm/base/status_matchers.h"

namespace drover {

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(HypervisorSuite);

void HypervisorSuite::SetUp() {
  absl::StatusOr<std::unique_ptr<Hypervisor>> made = GetParam().make();
  if (absl::IsUnavailable(made.status())) GTEST_SKIP() << "SKIPPED: " << made.status();
  ASSERT_OK(made);
  hypervisor_ = *std::move(made);
}

std::unique_ptr<Vm> HypervisorSuite::MakeVm(const std::vector<GuestRange>& ranges) {
  absl::StatusOr<std::unique_ptr<GuestMemory>> memory = GuestMemory::Create(ranges);
  EXPECT_OK(memory);
  if (!memory.ok()) return nullptr;
  absl::StatusOr<std::unique_ptr<Vm>> vm = hypervisor_->CreateVm(*std::move(memory));
  EXPECT_OK(vm);
  return vm.ok() ? *std::move(vm) : nullptr;
}

Vm& HypervisorSuite::vm() {
  if (vm_ == nullptr) vm_ = MakeVm({{0, kRam}});
  DROVER_CHECK(vm_ != nullptr);
  return *vm_;
}

std::unique_ptr<MemoryRegion> HypervisorSuite::Region(uint64_t size) {
  return PlainRegion::Anonymous(size).value();
}

std::unique_ptr<MemoryRegion> HypervisorSuite::Arena(uint64_t size) {
  return MemoryArena::Create(size).value();
}

Fd HypervisorSuite::Event() { return MakeEventFd().value(); }

absl::StatusOr<MemorySlot> HypervisorSuite::Add(uint64_t address, uint64_t pages, bool log_dirty) {
  return vm().AddMemoryRegion(address, Region(pages * kPage), false, log_dirty,
                              CacheType::kCoherent);
}

}  // namespace drover
