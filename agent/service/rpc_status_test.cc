#include "agent/service/rpc_status.h"

#include "agent/errors/field_violations.h"
#include "agent/service/rpc_error.h"
#include "proto/google/rpc/status.pb.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

// As chttp2 sends it, roughly: three bytes for what it must escape, base64 for the details.
size_t WireBytes(const grpc::Status& status) {
  size_t size = (status.error_details().size() + 2) / 3 * 4;
  for (const unsigned char c : status.error_message())
    size += c >= 0x20 && c <= 0x7e && c != '%' ? 1 : 3;
  return size;
}

TEST(ToGrpcStatusTest, OkStaysOk) { EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok()); }

TEST(ToGrpcStatusTest, CarriesReasonDomainAndMetadata) {
  const RpcError error = DecodeRpcError(ToGrpcStatus(
      WithReason(absl::NotFoundError("no VM"), "VM_NOT_FOUND"), {{"vm_id", "a"}, {"empty", ""}}));
  EXPECT_EQ(error.code, grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(error.message, "no VM");
  EXPECT_EQ(error.reason, "VM_NOT_FOUND");
  EXPECT_EQ(error.domain, "drover");
  EXPECT_THAT(error.metadata, UnorderedElementsAre(Pair("vm_id", "a")));
  EXPECT_TRUE(error.violations.empty());
  EXPECT_FALSE(error.retry_delay.has_value());
}

TEST(ToGrpcStatusTest, NamesTheCodeWhereThereIsNoReason) {
  EXPECT_EQ(DecodeRpcError(ToGrpcStatus(absl::DataLossError("x"))).reason, "DATA_LOSS");
}

TEST(ToGrpcStatusTest, NamesTheMissingCapability) {
  const absl::Status status = WithCapability(
      InvalidFields({{"vm.spec.dirty_log.kind", "required"}}, "CAPABILITY_MISSING"), "irqfd");
  const RpcError error = DecodeRpcError(ToGrpcStatus(status, {{"vm_id", "a"}}));
  EXPECT_EQ(error.reason, "CAPABILITY_MISSING");
  EXPECT_THAT(error.metadata,
              UnorderedElementsAre(Pair("vm_id", "a"), Pair("capability", "irqfd")));
}

TEST(ToGrpcStatusTest, ListsEveryField) {
  const RpcError error =
      DecodeRpcError(ToGrpcStatus(InvalidFields({{"vm_id", "bad"}, {"vm.spec.vcpus", "0"}})));
  ASSERT_EQ(error.violations.size(), 2u);
  EXPECT_EQ(error.violations[0].field, "vm_id");
  EXPECT_EQ(error.violations[1].field, "vm.spec.vcpus");
  EXPECT_EQ(error.violations[1].description, "0");
}

TEST(ToGrpcStatusTest, ShowsASingleFieldToo) {
  const RpcError error = DecodeRpcError(ToGrpcStatus(
      WithField(absl::InvalidArgumentError("empty file"), "vm.spec.boot.kernel_path")));
  ASSERT_EQ(error.violations.size(), 1u);
  EXPECT_EQ(error.violations[0].field, "vm.spec.boot.kernel_path");
  EXPECT_EQ(error.violations[0].description, "empty file");
}

TEST(ToGrpcStatusTest, DescribesAFailedPrecondition) {
  const RpcError error = DecodeRpcError(ToGrpcStatus(absl::FailedPreconditionError("is paused")));
  EXPECT_THAT(error.preconditions, ::testing::ElementsAre("is paused"));
}

TEST(ToGrpcStatusTest, FitsTrailersWhateverItIsGiven) {
  std::vector<FieldViolation> violations;
  for (int i = 0; i < 500; ++i)
    violations.push_back({std::string(1000, 'f'), std::string(1000, '\xff')});
  ErrorMetadata metadata;
  for (int i = 0; i < 50; ++i) metadata["key" + std::to_string(i)] = std::string(5000, 'v');
  for (const absl::Status& status :
       {InvalidFields(violations),
        WithReason(absl::FailedPreconditionError(std::string(100'000, '\x01')),
                   std::string(1000, 'R'))}) {
    const grpc::Status rpc = ToGrpcStatus(status, metadata);
    EXPECT_LE(WireBytes(rpc), kMaxStatusTrailerBytes);
    google::rpc::Status proto;
    EXPECT_TRUE(proto.ParseFromString(rpc.error_details()));
  }
  const RpcError error = DecodeRpcError(ToGrpcStatus(InvalidFields(violations), metadata));
  ASSERT_GE(error.violations.size(), 2u);
  EXPECT_THAT(error.violations.back().description, HasSubstr("more"));
}

TEST(DecodeRpcErrorTest, SurvivesDetailsThatAreNone) {
  const RpcError error =
      DecodeRpcError(grpc::Status(grpc::StatusCode::INTERNAL, "m", "\xff\xff garbage"));
  EXPECT_EQ(error.message, "m");
  EXPECT_EQ(error.reason, "");
}

TEST(CodeNameTest, NamesEveryCode) {
  EXPECT_EQ(CodeName(grpc::StatusCode::OK), "OK");
  EXPECT_EQ(CodeName(grpc::StatusCode::UNAVAILABLE), "UNAVAILABLE");
  EXPECT_EQ(CodeName(grpc::StatusCode::UNAUTHENTICATED), "UNAUTHENTICATED");
  EXPECT_EQ(CodeName(99), "CODE_99");
}

}  // namespace
}  // namespace drover
