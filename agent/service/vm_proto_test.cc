#include "agent/service/vm_proto.h"

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::Contains;
using ::testing::Field;

TEST(VmToProtoTest, CarriesEverything) {
  VmView vm;
  vm.id = "a";
  vm.uid = "u";
  vm.spec = {.vcpus = 2,
             .memory_mib = 64,
             .kernel_path = "/k",
             .initrd_path = "/i",
             .command_line = "quiet"};
  vm.labels = {{"k", "v"}};
  vm.state = VmState::kFailed;
  vm.state_reason = "TRIPLE_FAULT";
  vm.state_message = "m";
  vm.create_time = 1'500'000'001;
  vm.state_change_time = 2'000'000'000;
  vm.generation = 9;
  vm.boot_count = 3;
  vm.worker = VmWorkerView{.pid = 1, .uid = 2, .cgroup = "/c", .start_time = 3, .version = "4"};
  v1::Vm proto;
  VmToProto(vm, &proto);
  EXPECT_EQ(proto.id(), "a");
  EXPECT_EQ(proto.uid(), "u");
  EXPECT_EQ(proto.spec().vcpus(), 2);
  EXPECT_EQ(proto.spec().memory_mib(), 64);
  EXPECT_EQ(proto.spec().boot().kernel_path(), "/k");
  EXPECT_EQ(proto.spec().boot().initrd_path(), "/i");
  EXPECT_EQ(proto.spec().boot().command_line(), "quiet");
  EXPECT_EQ(proto.labels().at("k"), "v");
  EXPECT_EQ(proto.state(), v1::VM_STATE_FAILED);
  EXPECT_EQ(proto.state_reason(), "TRIPLE_FAULT");
  EXPECT_EQ(proto.create_time().seconds(), 1);
  EXPECT_EQ(proto.create_time().nanos(), 500'000'001);
  EXPECT_EQ(proto.etag(), "9");
  EXPECT_EQ(proto.boot_count(), 3);
  EXPECT_EQ(proto.worker().cgroup(), "/c");
  EXPECT_EQ(proto.worker().start_time().seconds(), 3);
}

TEST(VmToProtoTest, CarriesFeaturesAndFallbacks) {
  VmView vm;
  vm.spec.features.dirty_log = {DirtyLogMode::kRing, false};
  vm.spec.features.memory_pages = {MemoryPages::k2M, true};
  vm.plan = {MemoryPages::k2M,
             DirtyLogMode::kBitmap,
             SnapshotMode::kLive,
             MigrationMode::kPreCopy,
             {{"vm.spec.dirty_log.kind", "dirty ring", "dirty bitmap", "dirty_ring_bytes", "why"}}};
  v1::Vm proto;
  VmToProto(vm, &proto);
  EXPECT_EQ(proto.spec().dirty_log().kind(), v1::DIRTY_LOG_KIND_RING);
  EXPECT_FALSE(proto.spec().dirty_log().required());
  EXPECT_TRUE(proto.spec().memory_pages().required());
  EXPECT_FALSE(proto.spec().has_snapshots());
  EXPECT_EQ(proto.resolved_features().page_size(), v1::PAGE_SIZE_2M);
  EXPECT_EQ(proto.resolved_features().dirty_log_kind(), v1::DIRTY_LOG_KIND_BITMAP);
  EXPECT_EQ(proto.resolved_features().snapshot_mode(), v1::SNAPSHOT_MODE_LIVE);
  EXPECT_EQ(proto.resolved_features().migration_mode(), v1::MIGRATION_MODE_PRE_COPY);
  ASSERT_EQ(proto.fallbacks_size(), 1);
  EXPECT_EQ(proto.fallbacks(0).field(), "vm.spec.dirty_log.kind");
  EXPECT_EQ(proto.fallbacks(0).wanted(), "dirty ring");
  EXPECT_EQ(proto.fallbacks(0).taken(), "dirty bitmap");
  EXPECT_EQ(proto.fallbacks(0).capability(), "dirty_ring_bytes");
  EXPECT_EQ(proto.fallbacks(0).reason(), "why");
  v1::CreateVmRequest request;
  *request.mutable_vm()->mutable_spec() = proto.spec();
  EXPECT_EQ(CreateVmParamsFromProto(request).spec.features, vm.spec.features);
}

TEST(VmToProtoTest, LeavesAbsentPartsUnset) {
  v1::Vm proto;
  VmToProto(VmView(), &proto);
  EXPECT_FALSE(proto.has_worker());
  EXPECT_FALSE(proto.has_create_time());
  EXPECT_FALSE(proto.has_resolved_features());
  EXPECT_FALSE(proto.spec().has_memory_pages());
}

TEST(CreateVmParamsFromProtoTest, ReadsEveryField) {
  v1::CreateVmRequest request;
  request.set_vm_id("a");
  request.set_request_id("r");
  request.set_validate_only(true);
  request.mutable_vm()->mutable_spec()->set_vcpus(3);
  request.mutable_vm()->mutable_spec()->mutable_boot()->set_kernel_path("/k");
  (*request.mutable_vm()->mutable_labels())["x"] = "y";
  const CreateVmParams params = CreateVmParamsFromProto(request);
  EXPECT_EQ(params.id, "a");
  EXPECT_EQ(params.request_id, "r");
  EXPECT_TRUE(params.validate_only);
  EXPECT_EQ(params.spec, (VmSpec{.vcpus = 3, .kernel_path = "/k"}));
  EXPECT_EQ(params.labels.at("x"), "y");
  EXPECT_TRUE(CheckCreateVmRequest(request).empty());
}

TEST(CheckCreateVmRequestTest, NamesWhatIsMissing) {
  v1::CreateVmRequest request;
  EXPECT_THAT(CheckCreateVmRequest(request), Contains(Field(&FieldViolation::field, "vm")));
  request.mutable_vm();
  EXPECT_THAT(CheckCreateVmRequest(request), Contains(Field(&FieldViolation::field, "vm.spec")));
}

TEST(CheckCreateVmRequestTest, NamesEveryOutputOnlyFieldThatIsSet) {
  v1::CreateVmRequest request;
  v1::Vm* vm = request.mutable_vm();
  vm->mutable_spec();
  vm->set_id("a");
  vm->set_uid("u");
  vm->set_state(v1::VM_STATE_RUNNING);
  vm->set_state_reason("r");
  vm->set_state_message("m");
  vm->mutable_create_time();
  vm->mutable_state_change_time();
  vm->set_etag("1");
  vm->set_boot_count(1);
  vm->mutable_worker();
  const std::vector<FieldViolation> violations = CheckCreateVmRequest(request);
  EXPECT_EQ(violations.size(), 10u);
  EXPECT_THAT(violations, Contains(Field(&FieldViolation::field, "vm.state_change_time")));
}

TEST(GraceFromProtoTest, TakesTheDefaultAndTheLimits) {
  v1::StopVmRequest request;
  EXPECT_THAT(GraceFromProto(request), IsOkAndHolds(std::chrono::seconds(30)));
  request.mutable_grace();
  EXPECT_THAT(GraceFromProto(request), IsOkAndHolds(std::chrono::seconds(0)));
  request.mutable_grace()->set_seconds(3600);
  EXPECT_THAT(GraceFromProto(request), IsOkAndHolds(std::chrono::seconds(3600)));
}

TEST(GraceFromProtoTest, RefusesWhatIsOutside) {
  for (const auto& [seconds, nanos] : std::vector<std::pair<int64_t, int32_t>>{
           {-1, 0}, {0, -1}, {3600, 1}, {3601, 0}, {0, 1'000'000'000}, {INT64_MAX, 0}}) {
    v1::StopVmRequest request;
    request.mutable_grace()->set_seconds(seconds);
    request.mutable_grace()->set_nanos(nanos);
    const auto grace = GraceFromProto(request);
    ASSERT_THAT(grace, StatusIs(absl::StatusCode::kInvalidArgument)) << seconds;
    EXPECT_EQ(FieldViolations(grace.status())[0].field, "grace");
  }
}

}  // namespace
}  // namespace drover
