#include "agent/admission/admission.h"

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>

#include "vmm/base/status.h"
#include "vmm/base/status_matchers.h"
#include "vmm/core/testing/fake_hypervisor.h"

namespace drover {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

HostLimits Host() {
  BackendCapabilities capabilities = FakeHypervisor::DefaultCapabilities();
  capabilities.max_vcpus = 8;
  return {.capabilities = capabilities, .memory_mib = 1024, .reserved_mib = 24, .max_vms = 3};
}
const HostLimits& kHost = *new HostLimits(Host());

CreateVmParams Good() {
  CreateVmParams params;
  params.id = "web-1";
  params.spec = {2, 128, "/images/vmlinuz", "/images/initrd", "console=ttyS0"};
  params.labels = {{"team", "red"}, {"empty", ""}};
  params.request_id = "6f1c1d3e-0a0B-4c4d-8e8f-012345678901";
  return params;
}

auto OneViolation(const std::string& field, const std::string& text) {
  return ElementsAre(AllOf(Field(&FieldViolation::field, field),
                           Field(&FieldViolation::description, HasSubstr(text))));
}

TEST(ValidateCreateTest, GoodIsGood) {
  EXPECT_THAT(ValidateCreate(Good(), kHost), IsEmpty());
  CreateVmParams least = Good();
  least.spec = {1, 2, "/k", "", ""};
  least.labels.clear();
  least.request_id.clear();
  EXPECT_THAT(ValidateCreate(least, kHost), IsEmpty());
}

TEST(ValidateCreateTest, Ids) {
  for (const char* id :
       {"a", "a1", "a-b", "x2345678901234567890123456789012345678901234567890123456789012"})
    EXPECT_TRUE(IsVmId(id)) << id;
  for (const std::string& id :
       {std::string(""), std::string("1a"), std::string("-a"), std::string("a-"), std::string("A"),
        std::string("a_b"), std::string("a/b"), std::string("a.b"), std::string("a\0b", 3),
        std::string(64, 'a'), std::string("../x"), std::string("\xc3\xa9")}) {
    CreateVmParams params = Good();
    params.id = id;
    EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm_id", "1 to 63")) << id;
  }
}

TEST(ValidateCreateTest, Vcpus) {
  for (int32_t vcpus :
       {0, -1, 255, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}) {
    CreateVmParams params = Good();
    params.spec.vcpus = vcpus;
    EXPECT_THAT(ValidateCreate(params, kHost),
                OneViolation("vm.spec.vcpus", std::to_string(vcpus)));
  }
  CreateVmParams params = Good();
  params.spec.vcpus = 9;
  const absl::Status refused = ResolveCreate(params, kHost).status();
  EXPECT_THAT(FieldViolations(refused), OneViolation("vm.spec.vcpus", "max_vcpus is 8"));
  EXPECT_EQ(ReasonOf(refused), "VCPUS_UNSUPPORTED");
  EXPECT_EQ(CapabilityOf(refused), "max_vcpus");
  params.spec.vcpus = 254;
  HostLimits unprobed = kHost;
  unprobed.capabilities.reset();
  EXPECT_THAT(ResolveCreate(params, unprobed), IsOkAndHolds(VmPlan()));
}

TEST(ValidateCreateTest, Memory) {
  for (int32_t mib : {0, 1, -2, 3, 129, 1002, 1024, std::numeric_limits<int32_t>::max(),
                      std::numeric_limits<int32_t>::min()}) {
    CreateVmParams params = Good();
    params.spec.memory_mib = mib;
    EXPECT_THAT(ValidateCreate(params, kHost),
                OneViolation("vm.spec.memory_mib", std::to_string(mib)));
  }
  CreateVmParams params = Good();
  params.spec.memory_mib = 1000;
  EXPECT_THAT(ValidateCreate(params, kHost), IsEmpty());
}

TEST(ValidateCreateTest, Boot) {
  const std::string nul("/a\0b", 4);
  for (const std::string& path :
       {std::string(""), std::string("vmlinuz"), nul, "/" + std::string(5000, 'x')}) {
    CreateVmParams params = Good();
    params.spec.kernel_path = path;
    EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm.spec.boot.kernel_path", ""));
  }
  CreateVmParams params = Good();
  params.spec.initrd_path = "initrd";
  EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm.spec.boot.initrd_path", "absolute"));
  params = Good();
  params.spec.command_line = std::string(2048, 'x');
  EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm.spec.boot.command_line", "2048"));
  params.spec.command_line = nul;
  EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm.spec.boot.command_line", "NUL"));
  params.spec.command_line = std::string(2047, 'x');
  EXPECT_THAT(ValidateCreate(params, kHost), IsEmpty());
}

TEST(ValidateCreateTest, Labels) {
  CreateVmParams params = Good();
  params.labels = {{"", "v"}};
  EXPECT_THAT(ValidateCreate(params, kHost), SizeIs(1));
  params.labels = {{std::string(64, 'k'), "v"}};
  EXPECT_THAT(ValidateCreate(params, kHost), SizeIs(1));
  params.labels = {{"k", std::string(256, 'v')}};
  EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm.labels[\"k\"]", "255"));
  params.labels = {{"a\nb", "v"}};
  EXPECT_THAT(ValidateCreate(params, kHost), SizeIs(1));
  params.labels.clear();
  for (int i = 0; i < 33; ++i) params.labels["k" + std::to_string(i)] = "v";
  EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm.labels", "33"));
}

TEST(ValidateCreateTest, RequestId) {
  CreateVmParams params = Good();
  params.request_id = "again";
  EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("request_id", "UUID"));
}

TEST(ValidateCreateTest, FeaturesThatAreNone) {
  CreateVmParams params = Good();
  params.spec.features.memory_pages = {static_cast<MemoryPages>(3), false};
  EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm.spec.memory_pages.size", "3"));
  params.spec.features.memory_pages = {};
  params.spec.features.dirty_log = {static_cast<DirtyLogMode>(-1), true};
  EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm.spec.dirty_log.kind", "-1"));
  params.spec.features.dirty_log = {};
  params.spec.features.snapshots.required = true;
  EXPECT_THAT(ValidateCreate(params, kHost),
              OneViolation("vm.spec.snapshots.required", "vm.spec.snapshots.mode"));
}

CreateVmParams Greedy(bool required) {
  CreateVmParams params = Good();
  params.spec.features = {.memory_pages = {MemoryPages::k2M, required},
                          .dirty_log = {DirtyLogMode::kRing, required},
                          .snapshots = {SnapshotMode::kLive, required},
                          .migration = {MigrationMode::kPostCopy, required}};
  return params;
}

// Each capability that the agent withholds is refused at the create, falls back, or matters not.
TEST(ResolveCreateTest, EachCapabilityThatIsWithheld) {
  for (const CapabilityUsage& usage : CapabilityUsages()) {
    HostLimits host = kHost;
    ASSERT_OK(host.capabilities->Withhold(usage.name));
    const absl::StatusOr<VmPlan> preferred = ResolveCreate(Greedy(false), host);
    const absl::Status required = ResolveCreate(Greedy(true), host).status();
    if (!required.ok()) {
      EXPECT_EQ(CapabilityOf(required), usage.name);
      EXPECT_THAT(std::string(required.message()), HasSubstr(usage.name));
      EXPECT_FALSE(FieldViolations(required).empty());
    }
    const std::vector<Fallback> taken =
        preferred.ok() ? preferred->fallbacks : std::vector<Fallback>();
    for (const Fallback& fallback : taken) EXPECT_EQ(fallback.capability, usage.name);
    const bool free = usage.use == CapabilityUse::kUnused || usage.use == CapabilityUse::kNeed ||
                      usage.use == CapabilityUse::kChoice;
    EXPECT_TRUE(required.ok() || !free) << usage.name << ": " << required;
    EXPECT_TRUE(!preferred.ok() || usage.use != CapabilityUse::kRequired) << usage.name;
  }
}

TEST(ResolveCreateTest, EveryRefusalIsAField) {
  HostLimits host = kHost;
  ASSERT_OK(host.capabilities->WithholdAll({"hugetlb_2mib", "dirty_ring_bytes", "userfaultfd"}));
  const absl::Status status = ResolveCreate(Greedy(true), host).status();
  EXPECT_THAT(FieldViolations(status), SizeIs(4));
  EXPECT_EQ(ReasonOf(status), "CAPABILITY_MISSING");
  EXPECT_EQ(FieldOf(status), "vm.spec.memory_pages.size");
  ASSERT_OK_AND_ASSIGN(const VmPlan plan, ResolveCreate(Greedy(false), host));
  EXPECT_THAT(plan.fallbacks, SizeIs(4));
}

TEST(ValidateCreateTest, EverythingAtOnce) {
  EXPECT_THAT(ValidateCreate(CreateVmParams(), kHost), SizeIs(4));
}

TEST(CheckCapacityTest, MemoryIsNotOvercommitted) {
  const VmSpec spec = {8, 100, "/k", "", ""};
  EXPECT_OK(CheckCapacity(spec, {900, 1}, kHost));
  const absl::Status status = CheckCapacity(spec, {902, 1}, kHost);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("98 of this")));
  EXPECT_EQ(ReasonOf(status), "HOST_MEMORY_EXHAUSTED");
  EXPECT_EQ(RetryDelay(status), std::chrono::seconds(5));
}

TEST(CheckCapacityTest, VmCountIsLimited) {
  const VmSpec spec = {1, 2, "/k", "", ""};
  EXPECT_OK(CheckCapacity(spec, {4, 2}, kHost));
  EXPECT_EQ(ReasonOf(CheckCapacity(spec, {6, 3}, kHost)), "HOST_VMS_EXHAUSTED");
}

}  // namespace
}  // namespace drover
