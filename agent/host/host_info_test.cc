#include "agent/host/host_info.h"

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

TEST(ParseMemTotalTest, ReadsTheKernelsLine) {
  EXPECT_THAT(ParseMemTotalMib("MemTotal:       24689764 kB\nMemFree: 1 kB\n"),
              IsOkAndHolds(24111));
}

TEST(ParseMemTotalTest, RefusesTextWithoutIt) {
  for (const char* text : {"", "MemFree: 12 kB\n", "MemTotal: x kB\n", "MemTotal: -1 kB\n"})
    EXPECT_THAT(ParseMemTotalMib(text), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
}

TEST(ReadHostFactsTest, DescribesThisHost) {
  ASSERT_OK_AND_ASSIGN(const HostFacts facts, ReadHostFacts());
  EXPECT_FALSE(facts.kernel_release.empty());
  EXPECT_GE(facts.cpus, 1);
  EXPECT_GT(facts.memory_mib, 16);
}

VmView MakeVm(int32_t vcpus, int32_t memory_mib) {
  VmView vm;
  vm.spec.vcpus = vcpus;
  vm.spec.memory_mib = memory_mib;
  return vm;
}

TEST(HostInfoTest, AddsUpWhatVmsWerePromised) {
  const HostInfo host({.hostname = "h"}, {}, {.vcpus = 8, .memory_mib = 4096, .vms = 10}, "1.0", 7);
  const HostView view = host.Describe({MakeVm(2, 512), MakeVm(1, 128)});
  EXPECT_EQ(view.allocated, (HostResources{.vcpus = 3, .memory_mib = 640, .vms = 2}));
  EXPECT_EQ(view.capacity.vms, 10);
  EXPECT_EQ(view.agent_start_time, 7);
}

TEST(HostInfoTest, HasNoHypervisorWhereKvmIsUnusable) {
  EXPECT_EQ(HostInfo({}, {.kvm_unusable = "no /dev/kvm"}, {}, "", 0).Describe({}).hypervisor_kind,
            "");
  EXPECT_EQ(HostInfo({}, {}, {}, "", 0).Describe({}).hypervisor_kind, "kvm");
}

TEST(HostInfoTest, ShowsWhatIsWithheldAsAbsent) {
  const HelperProbe probe{.capabilities = {{"irqfd", "true"}, {"max_vcpus", "8"}}};
  const HostView view =
      HostInfo({}, probe, {}, "", 0, {"max_vcpus", "coalesced_io", "max_vcpus"}).Describe({});
  EXPECT_EQ(view.withheld, (std::vector<std::string>{"coalesced_io", "max_vcpus"}));
  EXPECT_EQ(view.probe.capabilities.at("max_vcpus"), "0");
  EXPECT_EQ(view.probe.capabilities.at("coalesced_io"), "false");
  EXPECT_EQ(view.probe.capabilities.at("irqfd"), "true");
}

TEST(UsableCapabilitiesTest, AreThoseProbedLessThoseWithheld) {
  const HelperProbe probe{.capabilities = {{"irqfd", "true"}, {"max_vcpus", "8"}}};
  ASSERT_OK_AND_ASSIGN(const auto host, UsableCapabilities(probe, {"irqfd"}));
  ASSERT_TRUE(host.has_value());
  EXPECT_FALSE(host->irqfd);
  EXPECT_EQ(host->max_vcpus, 8u);
  EXPECT_THAT(host->WhyAbsent("irqfd"), ::testing::HasSubstr("withheld"));
  EXPECT_THAT(UsableCapabilities({.kvm_unusable = "no"}, {}), IsOkAndHolds(std::nullopt));
  EXPECT_THAT(UsableCapabilities(probe, {"warp"}), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(CapabilityTest, ReadsNumbersAndTruths) {
  const HelperProbe probe{.capabilities = {{"max_vcpus", "254"}, {"a", "true"}, {"b", "false"}}};
  EXPECT_EQ(CapabilityNumber(probe, "max_vcpus"), 254);
  EXPECT_EQ(CapabilityNumber(probe, "absent"), 0);
  EXPECT_TRUE(CapabilityFlag(probe, "a"));
  EXPECT_FALSE(CapabilityFlag(probe, "b"));
  EXPECT_FALSE(CapabilityFlag(probe, "absent"));
}

}  // namespace
}  // namespace drover
