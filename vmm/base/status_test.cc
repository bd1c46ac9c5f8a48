#include "vmm/base/status.h"

#include <cerrno>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<int> Half(int value) {
  if (value % 2 != 0) return absl::InvalidArgumentError("odd");
  return value / 2;
}

absl::StatusOr<int> Quarter(int value) {
  ASSIGN_OR_RETURN(const int half, Half(value));
  RETURN_IF_ERROR(Half(half));
  return Half(half);
}

TEST(PosixStatus, NamesTheCallTheDetailAndTheErrno) {
  const absl::Status status = PosixStatus(ENOENT, "open", "/no/such");
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("open /no/such")));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("ENOENT")));
  EXPECT_THAT(status, HasErrno(ENOENT));
}

TEST(PosixStatus, AnnotateKeepsCodeAndPayloads) {
  const absl::Status status =
      Annotate(WithReason(PosixStatus(EPERM, "ioctl", ""), "REFUSED"), "vCPU 3");
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("vCPU 3: ioctl")));
  EXPECT_THAT(status, HasErrno(EPERM));
  EXPECT_EQ(ReasonOf(status), "REFUSED");
  EXPECT_OK(Annotate(absl::OkStatus(), "nothing"));
}

TEST(Reason, TheFirstOneSetStays) {
  const absl::Status status = WithReason(WithReason(absl::InternalError("x"), "NEAR"), "FAR");
  EXPECT_EQ(ReasonOf(status), "NEAR");
  EXPECT_EQ(FieldOf(status), "");
  EXPECT_EQ(FieldOf(WithField(status, "vm_id")), "vm_id");
  EXPECT_OK(WithReason(absl::OkStatus(), "X"));
  EXPECT_EQ(PosixErrno(status), std::nullopt);
}

TEST(Macros, ReturnTheFirstError) {
  EXPECT_THAT(Quarter(8), IsOkAndHolds(2));
  EXPECT_THAT(Quarter(7), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Quarter(6), StatusIs(absl::StatusCode::kInvalidArgument, "odd"));
}

TEST(CheckDeathTest, NamesTheCondition) {
  EXPECT_DEATH(DROVER_CHECK(1 + 1 == 3), "broken invariant: 1 \\+ 1 == 3");
}

}  // namespace
}  // namespace drover
