#ifndef DROVER_VMM_CORE_TESTING_HYPERVISOR_SUITE_H_
#define DROVER_VMM_CORE_TESTING_HYPERVISOR_SUITE_H_

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "vmm/base/fd.h"
#include "vmm/core/hypervisor.h"

namespace drover {

// A backend that the suite runs over: INSTANTIATE_TEST_SUITE_P(Name, HypervisorSuite, Values(...)).
struct HypervisorFactory {
  std::string name;
  // Called for each test; UNAVAILABLE skips it, loudly.
  std::function<absl::StatusOr<std::unique_ptr<Hypervisor>>()> make;
};
inline std::ostream& operator<<(std::ostream& out, const HypervisorFactory& factory) {
  return out << factory.name;
}

// What every backend promises in vm.h, vcpu.h and hypervisor.h, as far as no guest code is needed.
// Tests named Peer... are twins of crosvm's tests in hypervisor/tests.
class HypervisorSuite : public testing::TestWithParam<HypervisorFactory> {
 protected:
  static constexpr uint64_t kPage = 4096;
  static constexpr uint64_t kRam = 1 << 20;  // of vm(), at 0

  void SetUp() override;

  Hypervisor& hypervisor() { return *hypervisor_; }
  // A VM with these ranges; a test failure and nullptr where it cannot be made.
  std::unique_ptr<Vm> MakeVm(const std::vector<GuestRange>& ranges);
  // A VM with kRam bytes at 0, made when first asked for.
  Vm& vm();
  void GiveIrqchip() { ASSERT_TRUE(vm().CreateIrqchip({}).ok()); }

  static std::unique_ptr<MemoryRegion> Region(uint64_t size);
  static std::unique_ptr<MemoryRegion> Arena(uint64_t size);
  static Fd Event();
  // Adds `pages` of fresh memory at `address`, read-write.
  absl::StatusOr<MemorySlot> Add(uint64_t address, uint64_t pages, bool log_dirty = false);

 private:
  std::unique_ptr<Hypervisor> hypervisor_;
  std::unique_ptr<Vm> vm_;
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_TESTING_HYPERVISOR_SUITE_H_
