#include "agent/admission/admission.h"

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr HostLimits kHost = {.max_vcpus = 8, .memory_mib = 1024, .reserved_mib = 24, .max_vms = 3};

CreateVmParams Good() {
  CreateVmParams params;
  params.id = "web-1";
  params.spec = {2, 128, "/images/vmlinuz", "/images/initrd", "console=ttyS0"};
  params.labels = {{"team", "red"}, {"empty", ""}};
  params.request_id = "6f1c1d3e-0a0B-4c4d-8e8f-012345678901";
  return params;
}

auto OneViolation(const std::string& field, const std::string& text) {
  return ElementsAre(AllOf(Field(&FieldViolation::field, field),
                           Field(&FieldViolation::description, HasSubstr(text))));
}

TEST(ValidateCreateTest, GoodIsGood) {
  EXPECT_THAT(ValidateCreate(Good(), kHost), IsEmpty());
  CreateVmParams least = Good();
  least.spec = {1, 2, "/k", "", ""};
  least.labels.clear();
  least.request_id.clear();
  EXPECT_THAT(ValidateCreate(least, kHost), IsEmpty());
}

TEST(ValidateCreateTest, Ids) {
  for (const char* id :
       {"a", "a1", "a-b", "x2345678901234567890123456789012345678901234567890123456789012"})
    EXPECT_TRUE(IsVmId(id)) << id;
  for (const std::string& id :
       {std::string(""), std::string("1a"), std::string("-a"), std::string("a-"), std::string("A"),
        std::string("a_b"), std::string("a/b"), std::string("a.b"), std::string("a\0b", 3),
        std::string(64, 'a'), std::string("../x"), std::string("\xc3\xa9")}) {
    CreateVmParams params = Good();
    params.id = id;
    EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm_id", "1 to 63")) << id;
  }
}

TEST(ValidateCreateTest, Vcpus) {
  for (int32_t vcpus :
       {0, -1, 9, 255, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}) {
    CreateVmParams params = Good();
    params.spec.vcpus = vcpus;
    EXPECT_THAT(ValidateCreate(params, kHost),
                OneViolation("vm.spec.vcpus", std::to_string(vcpus)));
  }
  CreateVmParams params = Good();
  params.spec.vcpus = 254;
  HostLimits unprobed = kHost;
  unprobed.max_vcpus = 0;
  EXPECT_THAT(ValidateCreate(params, unprobed), IsEmpty());
}

TEST(ValidateCreateTest, Memory) {
  for (int32_t mib : {0, 1, -2, 3, 129, 1002, 1024, std::numeric_limits<int32_t>::max(),
                      std::numeric_limits<int32_t>::min()}) {
    CreateVmParams params = Good();
    params.spec.memory_mib = mib;
    EXPECT_THAT(ValidateCreate(params, kHost),
                OneViolation("vm.spec.memory_mib", std::to_string(mib)));
  }
  CreateVmParams params = Good();
  params.spec.memory_mib = 1000;
  EXPECT_THAT(ValidateCreate(params, kHost), IsEmpty());
}

TEST(ValidateCreateTest, Boot) {
  const std::string nul("/a\0b", 4);
  for (const std::string& path :
       {std::string(""), std::string("vmlinuz"), nul, "/" + std::string(5000, 'x')}) {
    CreateVmParams params = Good();
    params.spec.kernel_path = path;
    EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm.spec.boot.kernel_path", ""));
  }
  CreateVmParams params = Good();
  params.spec.initrd_path = "initrd";
  EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm.spec.boot.initrd_path", "absolute"));
  params = Good();
  params.spec.command_line = std::string(2048, 'x');
  EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm.spec.boot.command_line", "2048"));
  params.spec.command_line = nul;
  EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm.spec.boot.command_line", "NUL"));
  params.spec.command_line = std::string(2047, 'x');
  EXPECT_THAT(ValidateCreate(params, kHost), IsEmpty());
}

TEST(ValidateCreateTest, Labels) {
  CreateVmParams params = Good();
  params.labels = {{"", "v"}};
  EXPECT_THAT(ValidateCreate(params, kHost), SizeIs(1));
  params.labels = {{std::string(64, 'k'), "v"}};
  EXPECT_THAT(ValidateCreate(params, kHost), SizeIs(1));
  params.labels = {{"k", std::string(256, 'v')}};
  EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm.labels[\"k\"]", "255"));
  params.labels = {{"a\nb", "v"}};
  EXPECT_THAT(ValidateCreate(params, kHost), SizeIs(1));
  params.labels.clear();
  for (int i = 0; i < 33; ++i) params.labels["k" + std::to_string(i)] = "v";
  EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("vm.labels", "33"));
}

TEST(ValidateCreateTest, RequestId) {
  CreateVmParams params = Good();
  params.request_id = "again";
  EXPECT_THAT(ValidateCreate(params, kHost), OneViolation("request_id", "UUID"));
}

TEST(ValidateCreateTest, EverythingAtOnce) {
  EXPECT_THAT(ValidateCreate(CreateVmParams(), kHost), SizeIs(4));
}

TEST(CheckCapacityTest, MemoryIsNotOvercommitted) {
  const VmSpec spec = {8, 100, "/k", "", ""};
  EXPECT_OK(CheckCapacity(spec, {900, 1}, kHost));
  const absl::Status status = CheckCapacity(spec, {902, 1}, kHost);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("98 of this")));
  EXPECT_EQ(ReasonOf(status), "HOST_MEMORY_EXHAUSTED");
  EXPECT_EQ(RetryDelay(status), std::chrono::seconds(5));
}

TEST(CheckCapacityTest, VmCountIsLimited) {
  const VmSpec spec = {1, 2, "/k", "", ""};
  EXPECT_OK(CheckCapacity(spec, {4, 2}, kHost));
  EXPECT_EQ(ReasonOf(CheckCapacity(spec, {6, 3}, kHost)), "HOST_VMS_EXHAUSTED");
}

}  // namespace
}  // namespace drover
