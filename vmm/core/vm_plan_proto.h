#ifndef DROVER_VMM_CORE_VM_PLAN_PROTO_H_
#define DROVER_VMM_CORE_VM_PLAN_PROTO_H_

#include <cstddef>

#include "vmm/core/vm_plan.h"

namespace drover {

// VmFeatures and VmPlan as messages: worker.v1.MachineFeatures and MachinePlan on either runtime,
// registry.v1.VmFeatures and VmPlan. A number that nobody knows reads as kUnspecified.

// No plan has more fallbacks; more are not read.
inline constexpr int kMaxFallbacks = 16;

namespace internal {
template <typename T>
T PlanEnum(int number) {
  return number >= 0 && number <= 2 ? static_cast<T>(number) : T::kUnspecified;
}
}  // namespace internal

template <typename Proto>
void FeaturesToProto(const VmFeatures& features, Proto* proto) {
  proto->set_memory_pages(static_cast<int>(features.memory_pages.value));
  proto->set_memory_pages_required(features.memory_pages.required);
  proto->set_dirty_log(static_cast<int>(features.dirty_log.value));
  proto->set_dirty_log_required(features.dirty_log.required);
  proto->set_snapshots(static_cast<int>(features.snapshots.value));
  proto->set_snapshots_required(features.snapshots.required);
  proto->set_migration(static_cast<int>(features.migration.value));
  proto->set_migration_required(features.migration.required);
}

template <typename Proto>
VmFeatures FeaturesFromProto(const Proto& proto) {
  using internal::PlanEnum;
  return {{PlanEnum<MemoryPages>(proto.memory_pages()), proto.memory_pages_required()},
          {PlanEnum<DirtyLogMode>(proto.dirty_log()), proto.dirty_log_required()},
          {PlanEnum<SnapshotMode>(proto.snapshots()), proto.snapshots_required()},
          {PlanEnum<MigrationMode>(proto.migration()), proto.migration_required()}};
}

template <typename Proto>
void PlanToProto(const VmPlan& plan, Proto* proto) {
  proto->set_memory_pages(static_cast<int>(plan.memory_pages));
  proto->set_dirty_log(static_cast<int>(plan.dirty_log));
  proto->set_snapshots(static_cast<int>(plan.snapshots));
  proto->set_migration(static_cast<int>(plan.migration));
  for (const Fallback& fallback : plan.fallbacks) {
    auto* out = proto->add_fallbacks();
    out->set_field(fallback.field);
    out->set_wanted(fallback.wanted);
    out->set_taken(fallback.taken);
    out->set_capability(fallback.capability);
    out->set_reason(fallback.reason);
  }
}

template <typename Proto>
VmPlan PlanFromProto(const Proto& proto) {
  using internal::PlanEnum;
  VmPlan plan = {PlanEnum<MemoryPages>(proto.memory_pages()),
                 PlanEnum<DirtyLogMode>(proto.dirty_log()),
                 PlanEnum<SnapshotMode>(proto.snapshots()),
                 PlanEnum<MigrationMode>(proto.migration()),
                 {}};
  for (int i = 0; i < proto.fallbacks_size() && i < kMaxFallbacks; ++i) {
    const auto& in = proto.fallbacks(i);
    plan.fallbacks.push_back({in.field(), in.wanted(), in.taken(), in.capability(), in.reason()});
  }
  return plan;
}

}  // namespace drover

#endif  // DROVER_VMM_CORE_VM_PLAN_PROTO_H_
