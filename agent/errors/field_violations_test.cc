#include "agent/errors/field_violations.h"

#include <string>
#include <vector>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::SizeIs;

TEST(FieldViolationsTest, NoViolationIsOk) { EXPECT_OK(InvalidFields({})); }

TEST(FieldViolationsTest, NamesEveryField) {
  const std::vector<FieldViolation> violations = {{"vm.spec.vcpus", "must be 1 to 8, not 0"},
                                                  {"vm_id", "tab\tand\nline \"x\" \\ \xc3\xa9"}};
  const absl::Status status = InvalidFields(violations);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("vm.spec.vcpus: must be 1 to 8, not 0"),
                                     HasSubstr("vm_id: tab"))));
  EXPECT_EQ(ReasonOf(status), "INVALID_FIELDS");
  EXPECT_EQ(FieldOf(status), "vm.spec.vcpus");
  EXPECT_EQ(FieldViolations(status), violations);
  EXPECT_EQ(FieldViolations(Annotate(status, "create")), violations);
}

TEST(FieldViolationsTest, ReasonMayBeGiven) {
  EXPECT_EQ(ReasonOf(InvalidFields({{"a", "b"}}, "FILE_NOT_FOUND")), "FILE_NOT_FOUND");
}

TEST(FieldViolationsTest, SingleField) {
  const absl::Status status = WithField(absl::InvalidArgumentError("no such file"), "kernel_path");
  EXPECT_THAT(FieldViolations(status), ElementsAre(FieldViolation{"kernel_path", "no such file"}));
  EXPECT_THAT(FieldViolations(absl::InternalError("x")), IsEmpty());
  EXPECT_THAT(FieldViolations(absl::OkStatus()), IsEmpty());
}

TEST(FieldViolationsTest, HugeTextsMakeNoHugeError) {
  std::vector<FieldViolation> violations(50,
                                         {std::string(1 << 16, 'f'), std::string(1 << 20, 'd')});
  const absl::Status status = InvalidFields(violations);
  EXPECT_THAT(status.message(), SizeIs(Le(2000)));
  size_t bytes = 0;
  for (const FieldViolation& violation : FieldViolations(status))
    bytes += violation.field.size() + violation.description.size();
  EXPECT_LE(bytes, 2000);
  EXPECT_THAT(FieldViolations(status).back().description, HasSubstr("more"));
}

TEST(FieldViolationsTest, CutsBetweenUtf8Sequences) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "\xe2\x82\xac";
  for (size_t limit = 10; limit < 14; ++limit) {
    const std::string quoted = Quoted(text, limit);
    EXPECT_EQ((quoted.size() - 5) % 3, 0u) << quoted;
  }
}

TEST(FieldViolationsTest, QuotedEscapes) { EXPECT_EQ(Quoted("a\nb"), "\"a\\nb\""); }

TEST(RetryDelayTest, RoundTrip) {
  const absl::Status status =
      WithRetryDelay(absl::ResourceExhaustedError("full"), std::chrono::seconds(5));
  EXPECT_EQ(RetryDelay(status), std::chrono::seconds(5));
  EXPECT_EQ(RetryDelay(absl::InternalError("x")), std::nullopt);
  EXPECT_OK(WithRetryDelay(absl::OkStatus(), std::chrono::seconds(1)));
}

}  // namespace
}  // namespace drover
