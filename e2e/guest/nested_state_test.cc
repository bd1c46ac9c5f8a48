// KVM_GET_NESTED_STATE and KVM_SET_NESTED_STATE, as KVM really has them on SVM: the test guest runs
// a nested guest, is stopped at a chosen moment, and goes on in a second VM.

#include <errno.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <memory>

#include "e2e/guest/console_run.h"
#include "e2e/guest/copy_machine.h"

namespace drover {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr uint16_t kGuestMode = KVM_STATE_NESTED_GUEST_MODE;
constexpr uint16_t kRunPending = KVM_STATE_NESTED_RUN_PENDING;
constexpr uint16_t kGifSet = KVM_STATE_NESTED_GIF_SET;
constexpr uint32_t kHeaderSize = 128;
constexpr uint32_t kSvmSize = 128 + 4096;
constexpr uint32_t kHostSaveMsr = 0xc0010117;

struct Moment {
  const char* name;
  const char* command;
  uint16_t flags;  // all flags of the nested state at that moment
  uint32_t size;
};

constexpr Moment kMoments[] = {
    {"InNestedGuest", "nested,start", kGuestMode | kGifSet, kSvmSize},
    {"InNestedGuestWithoutNestedPaging", "nested,start,shadow", kGuestMode | kGifSet, kSvmSize},
    {"BetweenVmrunAndNestedGuest", "nested,start,turns=1", kGuestMode | kRunPending | kGifSet,
     kSvmSize},
    {"InHypervisorBetweenTwoRuns", "nested,start,turns=1", kGifSet, kHeaderSize},
    {"InHypervisorWithGifClear", "nested,hold", 0, kHeaderSize},
};
const Moment& kInNestedGuest = kMoments[0];
const Moment& kGifClear = kMoments[4];

uint64_t Count(const std::string& answer) {
  const size_t at = answer.find(" count=");
  return at == std::string::npos ? 0 : std::stoull(answer.substr(at + 7));
}

std::vector<VcpuPart> Without(VcpuPart part) {
  std::vector<VcpuPart> order = WorkingOrder();
  order.erase(std::find(order.begin(), order.end(), part));
  return order;
}

std::vector<VcpuPart> NestedFirst() {
  std::vector<VcpuPart> order = Without(VcpuPart::kNested);
  order.insert(order.begin(), VcpuPart::kNested);
  return order;
}

std::vector<VcpuPart> NestedLast() {
  std::vector<VcpuPart> order = Without(VcpuPart::kNested);
  order.push_back(VcpuPart::kNested);
  return order;
}

// What keeps these tests from running here, or "".
std::string WhyNot() {
  if (!HasKvm()) return "/dev/kvm is not there or not permitted";
  CopyMachine machine("e2e/guest/guest.elf", "");
  if (machine.nested_size() == 0) return "this KVM has no KVM_CAP_NESTED_STATE";
  if (machine.RunUntil("ready").empty()) return "the guest does not start: " + machine.error();
  const bool svm = machine.Ask("nested").find("no SVM") == std::string::npos;
  return svm ? "" : "this processor, or its KVM, has no SVM for guests";
}

class NestedStateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    static const std::string why = WhyNot();
    if (!why.empty()) GTEST_SKIP() << why;
  }

  // Starts the guest and stops it at that moment: source_ and copy_.
  void Capture(const Moment& moment) {
    source_ =
        std::make_unique<CopyMachine>("e2e/guest/guest.elf", std::string("do=") + moment.command);
    ASSERT_NE(source_->RunUntil("ready"), "") << source_->error();
    const bool captured = source_->Run([&] {
      copy_ = source_->Copy();
      return copy_.nested.flags == moment.flags;
    });
    ASSERT_TRUE(captured) << moment.name << source_->error();
  }

  // Puts copy_ into a new VM; "" or the call that failed.
  std::string Move(const std::vector<VcpuPart>& order, bool with_svm = true) {
    target_ = std::make_unique<CopyMachine>("", "", with_svm);
    return target_->Take(*source_, order, copy_);
  }

  // The guest found nothing wrong, counts, and ends its nested guest.
  void ExpectGoesOn() {
    const std::string first = target_->Ask("nested");
    const std::string second = target_->Ask("nested");
    EXPECT_THAT(first, HasSubstr("ok nested count=")) << target_->error();
    EXPECT_THAT(second, HasSubstr("ok nested count="));
    EXPECT_THAT(second, HasSubstr(" running=1 "));
    EXPECT_GT(Count(second), Count(first));
    EXPECT_THAT(target_->Ask("nested stop"), HasSubstr("ok nested count="));
    EXPECT_EQ(target_->error(), "");
  }

  std::unique_ptr<CopyMachine> source_, target_;
  VcpuCopy copy_;
};

class NestedMomentTest : public NestedStateTest, public ::testing::WithParamInterface<Moment> {};

TEST_P(NestedMomentTest, GoesOnInASecondVm) {
  ASSERT_NO_FATAL_FAILURE(Capture(GetParam()));
  EXPECT_EQ(copy_.nested.format, KVM_STATE_NESTED_FORMAT_SVM);
  EXPECT_EQ(copy_.nested.size, GetParam().size);
  ASSERT_EQ(Move(WorkingOrder()), "");
  ExpectGoesOn();
}

TEST_P(NestedMomentTest, GoesOnWhenNestedStateIsSetLast) {
  ASSERT_NO_FATAL_FAILURE(Capture(GetParam()));
  ASSERT_EQ(Move(NestedLast()), "");
  ExpectGoesOn();
}

TEST_P(NestedMomentTest, GoesOnWhenSetTwice) {
  ASSERT_NO_FATAL_FAILURE(Capture(GetParam()));
  std::vector<VcpuPart> twice = WorkingOrder();
  for (VcpuPart part : WorkingOrder()) twice.push_back(part);
  ASSERT_EQ(Move(twice), "");
  ExpectGoesOn();
}

INSTANTIATE_TEST_SUITE_P(Moments, NestedMomentTest, ::testing::ValuesIn(kMoments),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_F(NestedStateTest, SurvivesManyMoves) {
  ASSERT_NO_FATAL_FAILURE(Capture(kInNestedGuest));
  uint64_t count = 0;
  for (int i = 0; i < 10; i++) {
    ASSERT_EQ(Move(WorkingOrder()), "") << i;
    const std::string answer = target_->Ask("nested");
    ASSERT_THAT(answer, HasSubstr("ok nested count=")) << i << target_->error();
    ASSERT_GT(Count(answer), count);
    count = Count(answer);
    source_ = std::move(target_);
    ASSERT_TRUE(source_->Run([n = i]() mutable { return n-- <= 0; }));  // any moment
    copy_ = source_->Copy();
  }
}

TEST_F(NestedStateTest, TooSmallABufferSaysWhatIsNeeded) {
  ASSERT_NO_FATAL_FAILURE(Capture(kInNestedGuest));
  NestedBuffer small = {};
  small.size = kHeaderSize;
  EXPECT_EQ(ioctl(source_->vcpu(), KVM_GET_NESTED_STATE, &small), -1);
  EXPECT_EQ(errno, E2BIG);
  EXPECT_EQ(small.size, kSvmSize);
}

TEST_F(NestedStateTest, AFreshVcpuHasAHeaderWithGifSet) {
  const CopyMachine machine("", "");
  NestedBuffer nested = {};
  nested.size = sizeof(nested);
  ASSERT_EQ(ioctl(machine.vcpu(), KVM_GET_NESTED_STATE, &nested), 0) << strerror(errno);
  EXPECT_EQ(nested.size, kHeaderSize);
  EXPECT_EQ(nested.flags, kGifSet);
}

TEST_F(NestedStateTest, IsRefusedBeforeSregs) {
  for (const Moment& moment : {kInNestedGuest, kGifClear}) {
    ASSERT_NO_FATAL_FAILURE(Capture(moment));
    EXPECT_THAT(Move(NestedFirst()), StartsWith("KVM_SET_NESTED_STATE: Invalid argument"));
  }
}

TEST_F(NestedStateTest, IsRefusedForAVcpuWithoutSvm) {
  ASSERT_NO_FATAL_FAILURE(Capture(kInNestedGuest));
  EXPECT_NE(Move(WorkingOrder(), /*with_svm=*/false), "");
}

TEST_F(NestedStateTest, IsRefusedCutOffOrInTheOtherVendorsFormat) {
  ASSERT_NO_FATAL_FAILURE(Capture(kInNestedGuest));
  copy_.nested.size = kSvmSize - 1;
  EXPECT_THAT(Move(WorkingOrder()), StartsWith("KVM_SET_NESTED_STATE: Invalid argument"));
  copy_.nested.size = kSvmSize;
  copy_.nested.format = KVM_STATE_NESTED_FORMAT_VMX;
  EXPECT_THAT(Move(WorkingOrder()), StartsWith("KVM_SET_NESTED_STATE: Invalid argument"));
}

TEST_F(NestedStateTest, WithoutItAHeldInterruptComesThrough) {
  ASSERT_NO_FATAL_FAILURE(Capture(kGifClear));
  ASSERT_EQ(Move(Without(VcpuPart::kNested)), "");
  target_->Ask("nested");
  EXPECT_THAT(target_->Ask("nested"), HasSubstr("error nested wrong held interrupts before GIF"));
}

TEST_F(NestedStateTest, WithoutLapicAHeldInterruptIsLost) {
  ASSERT_NO_FATAL_FAILURE(Capture(kGifClear));
  ASSERT_EQ(Move(Without(VcpuPart::kLapic)), "");
  EXPECT_THAT(target_->Ask("nested stop"), HasSubstr("error nested wrong held interrupts after"));
}

TEST_F(NestedStateTest, WithoutHostSaveMsrVmrunFaults) {
  const std::vector<uint32_t> msrs = CopyMachine("", "").msrs();
  EXPECT_THAT(msrs, ::testing::Contains(kHostSaveMsr)) << "KVM_GET_MSR_INDEX_LIST";
  ASSERT_NO_FATAL_FAILURE(Capture(kInNestedGuest));
  for (kvm_msr_entry& msr : copy_.msrs) {
    if (msr.index == kHostSaveMsr) msr.data = 0;
  }
  ASSERT_EQ(Move(WorkingOrder()), "");
  EXPECT_THAT(target_->RunUntil("fault vector"), StartsWith("fault vector=13 "))
      << target_->error();
}

TEST_F(NestedStateTest, TheGuestNoticesAWrongRegister) {
  ASSERT_NO_FATAL_FAILURE(Capture(kInNestedGuest));
  copy_.regs.r13 ^= 1;
  ASSERT_EQ(Move(WorkingOrder()), "");
  target_->Ask("nested");
  EXPECT_THAT(target_->Ask("nested"), HasSubstr("error nested wrong r13 "));
}

TEST_F(NestedStateTest, TheGuestNoticesMissingDebugRegisters) {
  ASSERT_NO_FATAL_FAILURE(Capture(kInNestedGuest));
  ASSERT_EQ(Move(Without(VcpuPart::kDebugRegs)), "");
  target_->Ask("nested");
  EXPECT_THAT(target_->Ask("nested"), HasSubstr("error nested wrong VMCB word at=0x568 "));
}

}  // namespace
}  // namespace drover
