#include "agent/cli/args.h"

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<FlagSpec> kFlags = {
    {"output", 'o', "FORMAT", "", "table json"}, {"label", 0, "K=V", ""}, {"force", 'f', "", ""}};

TEST(ParseArgsTest, TakesEveryForm) {
  ASSERT_OK_AND_ASSIGN(const ParsedArgs args,
                       ParseArgs({"a", "--output=json", "--label", "x=1", "--label=y=2", "-f", "-o",
                                  "table", "--", "--b"},
                                 kFlags));
  EXPECT_THAT(args.positional(), ElementsAre("a", "--b"));
  EXPECT_EQ(args.Get("output"), "table");
  EXPECT_THAT(args.GetAll("label"), ElementsAre("x=1", "y=2"));
  EXPECT_TRUE(args.Has("force"));
  EXPECT_EQ(args.Get("absent", "else"), "else");
  EXPECT_TRUE(args.GetAll("absent").empty());
}

TEST(ParseArgsTest, NamesWhatIsWrong) {
  const auto error = [](const std::vector<std::string>& args) {
    return std::string(ParseArgs(args, kFlags).status().message());
  };
  EXPECT_THAT(error({"--ouput"}), HasSubstr("did you mean --output?"));
  EXPECT_THAT(error({"--zzzzzz"}), ::testing::Not(HasSubstr("did you mean")));
  EXPECT_THAT(error({"-x"}), HasSubstr("unknown option -x"));
  EXPECT_THAT(error({"--label"}), HasSubstr("needs a value"));
  EXPECT_THAT(error({"--force=1"}), HasSubstr("takes no value"));
  EXPECT_THAT(error({"-o", "xml"}), HasSubstr("one of: table json"));
}

TEST(ParseMemoryMibTest, KnowsUnits) {
  EXPECT_THAT(ParseMemoryMib("512"), IsOkAndHolds(512));
  EXPECT_THAT(ParseMemoryMib("512M"), IsOkAndHolds(512));
  EXPECT_THAT(ParseMemoryMib("512MiB"), IsOkAndHolds(512));
  EXPECT_THAT(ParseMemoryMib("2g"), IsOkAndHolds(2048));
  EXPECT_THAT(ParseMemoryMib("0"), IsOkAndHolds(0));  // the agent's to refuse
  for (const char* text : {"", "M", "-1", "1.5G", "1X", "9999999999999G", "3000T"})
    EXPECT_THAT(ParseMemoryMib(text), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
}

TEST(ParseDurationNanosTest, KnowsUnits) {
  EXPECT_THAT(ParseDurationNanos("30"), IsOkAndHolds(30'000'000'000));
  EXPECT_THAT(ParseDurationNanos("500ms"), IsOkAndHolds(500'000'000));
  EXPECT_THAT(ParseDurationNanos("2m"), IsOkAndHolds(120'000'000'000));
  for (const char* text : {"", "s", "1d", "-1s", "99999999999999h"})
    EXPECT_THAT(ParseDurationNanos(text), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
}

}  // namespace
}  // namespace drover
