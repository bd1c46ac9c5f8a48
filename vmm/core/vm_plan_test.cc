#include "vmm/core/vm_plan.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "vmm/base/status.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kMiB = 1 << 20;

// A host that has everything.
BackendCapabilities Host() {
  std::map<std::string, std::string> fields = BackendCapabilities().ToMap();
  for (auto& [name, value] : fields) value = value == "false" ? "true" : "64";
  BackendCapabilities host = BackendCapabilities::FromMap(fields);
  host.kind = BackendKind::kFake;
  host.guest_physical_bits = 46;
  host.manual_dirty_log_protect = 3;
  host.dirty_ring_bytes = 1 << 20;
  return host;
}

BackendCapabilities Without(const std::string& capability) {
  BackendCapabilities host = Host();
  EXPECT_OK(host.Withhold(capability));
  return host;
}

VmConfig Small() { return {.vcpus = 2, .memory_bytes = 64 * kMiB, .features = {}, .needs = {}}; }

// Asks for everything that falls back, on 4 KiB or 2 MiB pages.
VmConfig Greedy(bool huge, bool required) {
  VmConfig config = Small();
  config.features = {
      .memory_pages = {huge ? MemoryPages::k2M : MemoryPages::k4K, required},
      .dirty_log = {DirtyLogMode::kRing, required},
      .snapshots = {SnapshotMode::kLive, required},
      .migration = {MigrationMode::kPostCopy, required},
  };
  return config;
}

auto Refused(const std::string& field, const std::string& capability) {
  return AllOf(Field("field", &Refusal::field, field),
               Field("capability", &Refusal::capability, capability));
}

TEST(ResolveVm, NothingAskedForIsWhatIsBest) {
  const VmResolution all = ResolveVm(Small(), Host());
  EXPECT_THAT(all.refusals, IsEmpty());
  EXPECT_EQ(all.plan, (VmPlan{MemoryPages::k4K,
                              DirtyLogMode::kBitmap,
                              SnapshotMode::kLive,
                              MigrationMode::kPreCopy,
                              {}}));
  EXPECT_THAT(all.ram, ElementsAre(GuestRange{0, 64 * kMiB}));
}

TEST(ResolveVm, AHostWithLittleIsEnoughWhereNothingIsAskedFor) {
  const BackendCapabilities least = {.max_vcpus = 2,
                                     .exposes_vcpu_exits = true,
                                     .custom_mmio_devices = true,
                                     .memory_slots = 1,
                                     .irqchip = true,
                                     .immediate_exit = true};
  const VmResolution resolution = ResolveVm(Small(), least);
  EXPECT_THAT(resolution.refusals, IsEmpty());
  EXPECT_EQ(resolution.plan, (VmPlan{MemoryPages::k4K,
                                     DirtyLogMode::kUnspecified,
                                     SnapshotMode::kPaused,
                                     MigrationMode::kUnspecified,
                                     {}}));
}

TEST(ResolveVm, EverythingAskedForWhereTheHostHasIt) {
  for (const bool huge : {false, true}) {
    const VmResolution resolution = ResolveVm(Greedy(huge, /*required=*/true), Host());
    EXPECT_THAT(resolution.refusals, IsEmpty());
    EXPECT_EQ(resolution.plan, (VmPlan{huge ? MemoryPages::k2M : MemoryPages::k4K,
                                       DirtyLogMode::kRing,
                                       SnapshotMode::kLive,
                                       MigrationMode::kPostCopy,
                                       {}}));
  }
}

TEST(ResolveVm, LesserWishesAreServedAsTheyAre) {
  VmConfig config = Small();
  config.features = {.memory_pages = {MemoryPages::k4K, true},
                     .dirty_log = {DirtyLogMode::kBitmap, true},
                     .snapshots = {SnapshotMode::kPaused, true},
                     .migration = {MigrationMode::kPreCopy, true}};
  const VmResolution resolution = ResolveVm(config, Host());
  EXPECT_THAT(resolution.refusals, IsEmpty());
  EXPECT_EQ(resolution.plan, (VmPlan{MemoryPages::k4K,
                                     DirtyLogMode::kBitmap,
                                     SnapshotMode::kPaused,
                                     MigrationMode::kPreCopy,
                                     {}}));
}

// One wish on a host without one capability.
struct FallbackCase {
  const char* capability;
  bool huge;
  const char* field;
  const char* wanted;
  const char* taken;
};

const FallbackCase kFallbackCases[] = {
    {"hugetlb_2mib", true, "vm.spec.memory_pages.size", "2 MiB pages", "4 KiB pages"},
    {"dirty_ring_bytes", false, "vm.spec.dirty_log.kind", "dirty ring", "dirty bitmap"},
    {"userfaultfd_wp_shmem", false, "vm.spec.snapshots.mode", "live snapshot", "paused snapshot"},
    {"userfaultfd_wp_hugetlb", true, "vm.spec.snapshots.mode", "live snapshot", "paused snapshot"},
    {"userfaultfd", false, "vm.spec.snapshots.mode", "live snapshot", "paused snapshot"},
    {"userfaultfd", false, "vm.spec.migration.mode", "post-copy", "pre-copy"},
    {"postcopy_restore", false, "vm.spec.migration.mode", "post-copy", "pre-copy"},
    {"postcopy_restore", true, "vm.spec.migration.mode", "post-copy", "pre-copy"},
    {"userfaultfd_missing_hugetlb", true, "vm.spec.migration.mode", "post-copy", "pre-copy"},
};

TEST(ResolveVm, APreferenceFallsBack) {
  for (const FallbackCase& c : kFallbackCases) {
    const VmResolution resolution = ResolveVm(Greedy(c.huge, false), Without(c.capability));
    EXPECT_THAT(resolution.refusals, IsEmpty()) << c.capability;
    const auto& taken = resolution.plan.fallbacks;
    const auto found = std::find_if(taken.begin(), taken.end(),
                                    [&](const Fallback& f) { return f.field == c.field; });
    ASSERT_NE(found, taken.end()) << c.capability << " " << c.field;
    EXPECT_EQ(found->wanted, c.wanted);
    EXPECT_EQ(found->taken, c.taken);
    EXPECT_EQ(found->capability, c.capability);
    EXPECT_THAT(found->reason, AllOf(HasSubstr(c.capability), HasSubstr("withheld")));
  }
}

TEST(ResolveVm, ARequirementIsRefused) {
  for (const FallbackCase& c : kFallbackCases) {
    const VmResolution resolution = ResolveVm(Greedy(c.huge, true), Without(c.capability));
    EXPECT_THAT(resolution.plan.fallbacks, IsEmpty()) << c.capability;
    EXPECT_THAT(resolution.refusals, ::testing::Contains(Refused(c.field, c.capability)));
    const absl::Status status = RefusalStatus(resolution.refusals);
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                                 AllOf(HasSubstr(c.field), HasSubstr(c.capability))));
    EXPECT_EQ(ReasonOf(status), "CAPABILITY_MISSING");
    EXPECT_EQ(CapabilityOf(status), c.capability);
  }
}

TEST(ResolveVm, WithoutDirtyTrackingALogOrMigrationThatIsAskedForIsRefused) {
  for (const bool required : {false, true}) {
    VmConfig config = Small();
    config.features.dirty_log = {DirtyLogMode::kBitmap, required};
    config.features.migration = {MigrationMode::kPreCopy, required};
    EXPECT_THAT(ResolveVm(config, Without("dirty_page_tracking")).refusals,
                ElementsAre(Refused("vm.spec.dirty_log.kind", "dirty_page_tracking"),
                            Refused("vm.spec.migration.mode", "dirty_page_tracking")));
  }
}

TEST(ResolveVm, TheFallbackToSmallPagesDecidesWhatTheOthersNeed) {
  BackendCapabilities host = Without("hugetlb_2mib");
  ASSERT_OK(host.Withhold("userfaultfd_wp_hugetlb"));
  ASSERT_OK(host.Withhold("userfaultfd_missing_hugetlb"));
  const VmResolution resolution = ResolveVm(Greedy(/*huge=*/true, false), host);
  EXPECT_EQ(resolution.plan.fallbacks.size(), 1u);
  EXPECT_EQ(resolution.plan.snapshots, SnapshotMode::kLive);
  EXPECT_EQ(resolution.plan.migration, MigrationMode::kPostCopy);
}

TEST(ResolveVm, WithoutManualProtectTheRingIsBetterThanTheBitmap) {
  BackendCapabilities host = Without("manual_dirty_log_protect");
  EXPECT_EQ(ResolveVm(Small(), host).plan.dirty_log, DirtyLogMode::kRing);
  ASSERT_OK(host.Withhold("dirty_ring_bytes"));
  const VmPlan plan = ResolveVm(Small(), host).plan;
  EXPECT_EQ(plan.dirty_log, DirtyLogMode::kBitmap);
  EXPECT_THAT(plan.fallbacks, IsEmpty()) << "nothing was asked for";
}

TEST(ResolveVm, Vcpus) {
  VmConfig config = Small();
  config.vcpus = 65;
  EXPECT_THAT(ResolveVm(config, Host()).refusals,
              ElementsAre(Refused("vm.spec.vcpus", "max_vcpus")));
  EXPECT_THAT(ResolveVm(config, Host()).refusals[0].message, HasSubstr("max_vcpus is 64"));
  config.vcpus = 64;
  EXPECT_THAT(ResolveVm(config, Host()).refusals, IsEmpty());
  config.vcpus = 0;
  EXPECT_THAT(ResolveVm(config, Host()).refusals, ElementsAre(Refused("vm.spec.vcpus", "")));
  BackendCapabilities large = Host();
  large.max_vcpus = 1024;
  config.vcpus = 254;
  EXPECT_THAT(ResolveVm(config, large).refusals, IsEmpty());
  config.vcpus = 255;
  EXPECT_THAT(ResolveVm(config, large).refusals, ElementsAre(Refused("vm.spec.vcpus", "")));
}

TEST(ResolveVm, MemoryBeyondThePhysicalBits) {
  BackendCapabilities host = Host();
  host.guest_physical_bits = 36;
  VmConfig config = Small();
  config.memory_bytes = uint64_t{63} << 30;
  EXPECT_THAT(ResolveVm(config, host).refusals, IsEmpty());
  config.memory_bytes = uint64_t{64} << 30;
  EXPECT_THAT(ResolveVm(config, host).refusals,
              ElementsAre(Refused("vm.spec.memory_mib", "guest_physical_bits")));
  EXPECT_THAT(ResolveVm(config, host).ram, IsEmpty());
  config.memory_bytes = 4097;
  EXPECT_THAT(ResolveVm(config, host).refusals, ElementsAre(Refused("vm.spec.memory_mib", "")));
}

TEST(ResolveVm, MemorySlots) {
  BackendCapabilities host = Host();
  host.memory_slots = 1;
  VmConfig config = Small();
  EXPECT_THAT(ResolveVm(config, host).refusals, IsEmpty());
  config.memory_bytes = uint64_t{4} << 30;  // on both sides of the gap
  EXPECT_THAT(ResolveVm(config, host).refusals,
              ElementsAre(Refused("vm.spec.memory_mib", "memory_slots")));
}

TEST(ResolveVm, EveryRefusalIsThere) {
  BackendCapabilities nothing;
  VmConfig config = Greedy(/*huge=*/true, /*required=*/true);
  config.needs = {{"vm.spec.disks[0]", "irqfd", "a disk's interrupt"}};
  const VmResolution resolution = ResolveVm(config, nothing);
  std::set<std::string> fields;
  for (const Refusal& refusal : resolution.refusals) {
    fields.insert(refusal.field);
    EXPECT_NE(refusal.message, "");
  }
  EXPECT_THAT(fields,
              ElementsAre("vm.spec", "vm.spec.dirty_log.kind", "vm.spec.disks[0]",
                          "vm.spec.memory_mib", "vm.spec.memory_pages.size",
                          "vm.spec.migration.mode", "vm.spec.snapshots.mode", "vm.spec.vcpus"));
  EXPECT_THAT(std::string(RefusalStatus(resolution.refusals).message()),
              AllOf(HasSubstr("vm.spec.vcpus"), HasSubstr("vm.spec.disks[0]: a disk's interrupt")));
}

TEST(CapabilityUsages, SayOfEachCapabilityWhatItsAbsenceMeans) {
  std::set<std::string> documented, known;
  for (const CapabilityUsage& usage : CapabilityUsages()) {
    EXPECT_TRUE(documented.insert(usage.name).second) << usage.name << " twice";
    EXPECT_STRNE(usage.meaning, "");
  }
  for (const std::string& name : BackendCapabilities::Names()) known.insert(name);
  EXPECT_EQ(documented, known);
}

// What withholding a capability does, seen from outside.
struct Effect {
  bool refuses_all = false;       // a VM that asks for nothing
  bool refuses_required = false;  // one that requires all there is
  bool falls_back = false;        // one that would like all there is
  bool refuses_large = false;     // one with 8 GiB
  bool refuses_need = false;      // one with a part that needs it
  bool changes_plan = false;      // of one that asks for nothing
};

Effect EffectOf(const std::string& capability) {
  const BackendCapabilities host = Without(capability);
  Effect effect;
  effect.refuses_all = !ResolveVm(Small(), host).refusals.empty();
  effect.changes_plan = ResolveVm(Small(), host).plan != ResolveVm(Small(), Host()).plan;
  for (const bool huge : {false, true}) {
    effect.refuses_required |= !ResolveVm(Greedy(huge, true), host).refusals.empty();
    const VmResolution wished = ResolveVm(Greedy(huge, false), host);
    effect.falls_back |=
        !wished.plan.fallbacks.empty() || (!effect.refuses_all && !wished.refusals.empty());
  }
  VmConfig large = Small();
  large.memory_bytes = uint64_t{8} << 30;
  effect.refuses_large = !ResolveVm(large, host).refusals.empty();
  VmConfig needy = Small();
  needy.needs = {{"vm.spec.part", capability, "a part"}};
  const VmResolution need = ResolveVm(needy, host);
  effect.refuses_need =
      std::any_of(need.refusals.begin(), need.refusals.end(),
                  [](const Refusal& refusal) { return refusal.field == "vm.spec.part"; });
  return effect;
}

// Withholding any capability is refused, falls back, or is documented as without effect.
TEST(CapabilityUsages, AreWhatHappens) {
  for (const CapabilityUsage& usage : CapabilityUsages()) {
    const Effect effect = EffectOf(usage.name);
    EXPECT_TRUE(effect.refuses_need) << usage.name;
    EXPECT_EQ(effect.refuses_all, usage.use == CapabilityUse::kRequired ||
                                      (usage.use == CapabilityUse::kLimit && effect.refuses_all))
        << usage.name;
    switch (usage.use) {
      case CapabilityUse::kRequired:
        EXPECT_TRUE(effect.refuses_all) << usage.name;
        break;
      case CapabilityUse::kLimit:
        EXPECT_TRUE(effect.refuses_large) << usage.name;
        break;
      case CapabilityUse::kFallback:
        EXPECT_TRUE(effect.falls_back && effect.refuses_required) << usage.name;
        EXPECT_FALSE(effect.refuses_all) << usage.name;
        break;
      case CapabilityUse::kChoice:
        EXPECT_TRUE(effect.changes_plan) << usage.name;
        EXPECT_FALSE(effect.falls_back || effect.refuses_required) << usage.name;
        break;
      case CapabilityUse::kNeed:
      case CapabilityUse::kUnused:
        EXPECT_FALSE(effect.falls_back || effect.refuses_required || effect.refuses_large ||
                     effect.changes_plan)
            << usage.name;
        break;
    }
  }
}

TEST(RefusalStatus, IsOkWithoutRefusals) { EXPECT_OK(RefusalStatus({})); }

}  // namespace
}  // namespace drover
