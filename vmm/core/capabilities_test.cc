#include "vmm/core/capabilities.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace drover {
namespace {

using testing::HasSubstr;

TEST(BackendCapabilities, EveryFieldComesBack) {
  std::map<std::string, std::string> fields = BackendCapabilities().ToMap();
  EXPECT_EQ(fields.size(), 28u);
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

TEST(BackendCapabilities, Prints) {
  std::ostringstream out;
  out << BackendCapabilities{.kind = BackendKind::kKvm, .max_vcpus = 3, .irqfd = true};
  EXPECT_THAT(out.str(), HasSubstr("irqfd=true"));
  EXPECT_THAT(out.str(), HasSubstr("kind=kvm"));
  EXPECT_THAT(out.str(), HasSubstr("max_vcpus=3"));
}

}  // namespace
}  // namespace drover
