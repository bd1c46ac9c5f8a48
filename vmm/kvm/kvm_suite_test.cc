#include <gtest/gtest.h>

#include "vmm/core/testing/hypervisor_suite.h"
#include "vmm/kvm/testing/kvm_for_test.h"

namespace drover {
namespace {

INSTANTIATE_TEST_SUITE_P(
    Kvm, HypervisorSuite,
    testing::Values(HypervisorFactory{
        "Kvm", []() -> absl::StatusOr<std::unique_ptr<Hypervisor>> { return OpenKvmForTest(); }}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace drover
