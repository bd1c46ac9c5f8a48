#include "agent/service/vm_proto.h"

#include <string>
#include <utility>

#include "agent/service/time_proto.h"

namespace drover {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr seconds kDefaultGrace{30};
constexpr seconds kMaxGrace{3600};

static_assert(static_cast<int>(VmState::kCreated) == v1::VM_STATE_CREATED);
static_assert(static_cast<int>(MemoryPages::k2M) == v1::PAGE_SIZE_2M);
static_assert(static_cast<int>(DirtyLogMode::kRing) == v1::DIRTY_LOG_KIND_RING);
static_assert(static_cast<int>(SnapshotMode::kLive) == v1::SNAPSHOT_MODE_LIVE);
static_assert(static_cast<int>(MigrationMode::kPostCopy) == v1::MIGRATION_MODE_POST_COPY);
static_assert(static_cast<int>(VmState::kUnknown) == v1::VM_STATE_UNKNOWN);

// The API's enums have the same numbers.
template <typename To, typename From>
To Renamed(From value) {
  return static_cast<To>(static_cast<int>(value));
}

// A wish that was not made is left out.
void FeaturesToProto(const VmFeatures& features, v1::VmSpec* proto) {
  if (const auto& wish = features.memory_pages; wish != Wish<MemoryPages>()) {
    proto->mutable_memory_pages()->set_size(Renamed<v1::PageSize>(wish.value));
    proto->mutable_memory_pages()->set_required(wish.required);
  }
  if (const auto& wish = features.dirty_log; wish != Wish<DirtyLogMode>()) {
    proto->mutable_dirty_log()->set_kind(Renamed<v1::DirtyLogKind>(wish.value));
    proto->mutable_dirty_log()->set_required(wish.required);
  }
  if (const auto& wish = features.snapshots; wish != Wish<SnapshotMode>()) {
    proto->mutable_snapshots()->set_mode(Renamed<v1::SnapshotMode>(wish.value));
    proto->mutable_snapshots()->set_required(wish.required);
  }
  if (const auto& wish = features.migration; wish != Wish<MigrationMode>()) {
    proto->mutable_migration()->set_mode(Renamed<v1::MigrationMode>(wish.value));
    proto->mutable_migration()->set_required(wish.required);
  }
}

// Numbers that are unknown stay as they are, for admission to refuse.
VmFeatures FeaturesFromProto(const v1::VmSpec& proto) {
  return {{Renamed<MemoryPages>(proto.memory_pages().size()), proto.memory_pages().required()},
          {Renamed<DirtyLogMode>(proto.dirty_log().kind()), proto.dirty_log().required()},
          {Renamed<SnapshotMode>(proto.snapshots().mode()), proto.snapshots().required()},
          {Renamed<MigrationMode>(proto.migration().mode()), proto.migration().required()}};
}

void PlanToProto(const VmPlan& plan, v1::Vm* proto) {
  if (plan == VmPlan()) return;
  v1::ResolvedFeatures* const resolved = proto->mutable_resolved_features();
  resolved->set_page_size(Renamed<v1::PageSize>(plan.memory_pages));
  resolved->set_dirty_log_kind(Renamed<v1::DirtyLogKind>(plan.dirty_log));
  resolved->set_snapshot_mode(Renamed<v1::SnapshotMode>(plan.snapshots));
  resolved->set_migration_mode(Renamed<v1::MigrationMode>(plan.migration));
  for (const Fallback& fallback : plan.fallbacks) {
    v1::Fallback* const out = proto->add_fallbacks();
    out->set_field(fallback.field);
    out->set_wanted(fallback.wanted);
    out->set_taken(fallback.taken);
    out->set_capability(fallback.capability);
    out->set_reason(fallback.reason);
  }
}

void SpecToProto(const VmSpec& spec, v1::VmSpec* proto) {
  proto->set_vcpus(spec.vcpus);
  proto->set_memory_mib(spec.memory_mib);
  proto->mutable_boot()->set_kernel_path(spec.kernel_path);
  proto->mutable_boot()->set_initrd_path(spec.initrd_path);
  proto->mutable_boot()->set_command_line(spec.command_line);
  FeaturesToProto(spec.features, proto);
}

VmSpec SpecFromProto(const v1::VmSpec& proto) {
  return VmSpec{.vcpus = proto.vcpus(),
                .memory_mib = proto.memory_mib(),
                .kernel_path = proto.boot().kernel_path(),
                .initrd_path = proto.boot().initrd_path(),
                .command_line = proto.boot().command_line(),
                .features = FeaturesFromProto(proto)};
}

void WorkerToProto(const VmWorkerView& worker, v1::Worker* proto) {
  proto->set_pid(worker.pid);
  proto->set_uid(worker.uid);
  proto->set_cgroup(worker.cgroup);
  proto->mutable_start_time()->set_seconds(worker.start_time);
  proto->set_version(worker.version);
}

}  // namespace

void VmToProto(const VmView& vm, v1::Vm* proto) {
  proto->set_id(vm.id);
  proto->set_uid(vm.uid);
  SpecToProto(vm.spec, proto->mutable_spec());
  proto->mutable_labels()->insert(vm.labels.begin(), vm.labels.end());
  proto->set_state(static_cast<v1::VmState>(vm.state));
  proto->set_state_reason(vm.state_reason);
  proto->set_state_message(vm.state_message);
  if (vm.create_time > 0) NanosToProto(vm.create_time, proto->mutable_create_time());
  if (vm.state_change_time > 0)
    NanosToProto(vm.state_change_time, proto->mutable_state_change_time());
  proto->set_etag(std::to_string(vm.generation));
  proto->set_boot_count(vm.boot_count);
  PlanToProto(vm.plan, proto);
  if (vm.worker.has_value()) WorkerToProto(*vm.worker, proto->mutable_worker());
}

void VmPageToProto(const VmPage& page, v1::ListVmsResponse* proto) {
  for (const VmView& vm : page.vms) VmToProto(vm, proto->add_vms());
  proto->set_next_page_token(page.next_page_token);
}

CreateVmParams CreateVmParamsFromProto(const v1::CreateVmRequest& proto) {
  return CreateVmParams{.id = proto.vm_id(),
                        .spec = SpecFromProto(proto.vm().spec()),
                        .labels = {proto.vm().labels().begin(), proto.vm().labels().end()},
                        .request_id = proto.request_id(),
                        .validate_only = proto.validate_only()};
}

std::vector<FieldViolation> CheckCreateVmRequest(const v1::CreateVmRequest& proto) {
  std::vector<FieldViolation> out;
  if (!proto.has_vm()) {
    out.push_back({"vm", "is required: set vm.spec"});
    return out;
  }
  const v1::Vm& vm = proto.vm();
  if (!vm.has_spec()) out.push_back({"vm.spec", "is required"});
  if (!vm.id().empty()) out.push_back({"vm.id", "must be unset: the id goes into vm_id"});
  const std::pair<const char*, bool> output_only[] = {
      {"vm.uid", !vm.uid().empty()},
      {"vm.state", vm.state() != v1::VM_STATE_UNSPECIFIED},
      {"vm.state_reason", !vm.state_reason().empty()},
      {"vm.state_message", !vm.state_message().empty()},
      {"vm.create_time", vm.has_create_time()},
      {"vm.state_change_time", vm.has_state_change_time()},
      {"vm.etag", !vm.etag().empty()},
      {"vm.boot_count", vm.boot_count() != 0},
      {"vm.worker", vm.has_worker()},
      {"vm.resolved_features", vm.has_resolved_features()},
      {"vm.fallbacks", vm.fallbacks_size() != 0},
  };
  for (const auto& [field, set] : output_only)
    if (set) out.push_back({field, "is output only: leave it unset"});
  return out;
}

absl::StatusOr<nanoseconds> GraceFromProto(const v1::StopVmRequest& proto) {
  if (!proto.has_grace()) return kDefaultGrace;
  const auto& grace = proto.grace();
  const bool sane = grace.seconds() >= 0 && grace.seconds() <= kMaxGrace.count() &&
                    grace.nanos() >= 0 && grace.nanos() < 1'000'000'000;
  const nanoseconds value =
      sane ? seconds(grace.seconds()) + nanoseconds(grace.nanos()) : nanoseconds(-1);
  if (!sane || value > kMaxGrace)
    return InvalidFields({{"grace", "must be from 0 to 3600 s; unset means 30 s"}});
  return value;
}

}  // namespace drover
