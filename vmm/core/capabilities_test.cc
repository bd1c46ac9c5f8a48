#include "vmm/core/capabilities.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using testing::HasSubstr;

TEST(BackendCapabilities, EveryFieldComesBack) {
  std::map<std::string, std::string> fields = BackendCapabilities().ToMap();
  EXPECT_EQ(fields.size(), 32u);
  fields["kind"] = "kvm";
  for (auto& [name, value] : fields) {
    if (value == "false") value = "true";
    if (value == "0") value = "4294967295";
  }
  const BackendCapabilities all = BackendCapabilities::FromMap(fields);
  EXPECT_EQ(all.ToMap(), fields);
  EXPECT_NE(all, BackendCapabilities());
}

TEST(BackendCapabilities, UnknownNamesAreIgnored) {
  EXPECT_EQ(BackendCapabilities::FromMap({{"flux_capacitor", "true"}}), BackendCapabilities());
}

TEST(BackendCapabilities, UnreadableValuesAreAbsentCapabilities) {
  EXPECT_EQ(BackendCapabilities::FromMap(
                {{"kind", "xen"}, {"max_vcpus", "-1"}, {"irqfd", "yes"}, {"memory_slots", "1e3"}}),
            BackendCapabilities());
}

BackendCapabilities Everything() {
  std::map<std::string, std::string> fields = BackendCapabilities().ToMap();
  for (auto& [name, value] : fields) value = value == "false" ? "true" : "7";
  return BackendCapabilities::FromMap(fields);
}

TEST(BackendCapabilities, EachIsWithheldByItsNameAlone) {
  EXPECT_EQ(BackendCapabilities::Names().size(), 31u);
  for (const std::string& name : BackendCapabilities::Names()) {
    BackendCapabilities host = Everything();
    EXPECT_TRUE(host.Has(name)) << name;
    ASSERT_OK(host.Withhold(name));
    EXPECT_FALSE(host.Has(name)) << name;
    EXPECT_THAT(host.withheld, testing::ElementsAre(name));
    EXPECT_THAT(host.WhyAbsent(name), HasSubstr(name + " is withheld"));
    for (const std::string& other : BackendCapabilities::Names())
      EXPECT_EQ(host.Has(other), other != name) << name << " took " << other;
  }
}

TEST(BackendCapabilities, WithholdingAnUnknownNameListsThoseThereAre) {
  for (const char* name : {"kind", "", "flux_capacitor", "IRQFD"}) {
    BackendCapabilities host = Everything();
    const absl::Status status = host.Withhold(name);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    for (const std::string& known : BackendCapabilities::Names())
      EXPECT_THAT(std::string(status.message()), HasSubstr(known));
    EXPECT_EQ(host, Everything());
  }
  EXPECT_FALSE(Everything().Has("kind"));
}

TEST(BackendCapabilities, AllAreWithheldOrNone) {
  BackendCapabilities host = Everything();
  EXPECT_FALSE(host.WithholdAll({"irqfd", "flux_capacitor"}).ok());
  EXPECT_EQ(host, Everything());
  EXPECT_OK(host.WithholdAll({"irqfd", "max_vcpus", "irqfd"}));
  EXPECT_THAT(host.withheld, testing::ElementsAre("irqfd", "max_vcpus"));
}

TEST(BackendCapabilities, TellsTheAbsentFromTheWithheld) {
  EXPECT_THAT(BackendCapabilities().WhyAbsent("irqfd"), HasSubstr("the host has no"));
}

TEST(BackendCapabilities, Prints) {
  std::ostringstream out;
  out << BackendCapabilities{.kind = BackendKind::kKvm, .max_vcpus = 3, .irqfd = true};
  EXPECT_THAT(out.str(), HasSubstr("irqfd=true"));
  EXPECT_THAT(out.str(), HasSubstr("kind=kvm"));
  EXPECT_THAT(out.str(), HasSubstr("max_vcpus=3"));
}

}  // namespace
}  // namespace drover
