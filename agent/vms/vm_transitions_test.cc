#include "agent/vms/vm_transitions.h"

#include <map>
#include <set>

#include "agent/vms/page_token.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using enum VmOperation;

const std::map<VmState, std::set<VmOperation>> kAllowed = {
    {VmState::kCreated, {kStart, kDelete, kDeleteForce}},
    {VmState::kStarting, {kStop, kDeleteForce, kAttachConsole}},
    {VmState::kRunning, {kStop, kPause, kReboot, kDeleteForce, kAttachConsole}},
    {VmState::kPaused, {kStop, kResume, kReboot, kDeleteForce, kAttachConsole}},
    {VmState::kStopping, {kStop, kDeleteForce, kAttachConsole}},
    {VmState::kStopped, {kStart, kDelete, kDeleteForce}},
    {VmState::kFailed, {kStart, kDelete, kDeleteForce}},
    {VmState::kUnknown, {kStop, kDeleteForce}},
};

TEST(VmTransitionsTest, EveryPair) {
  for (const auto& [state, allowed] : kAllowed) {
    for (int i = 0; i < kVmOperations; ++i) {
      const VmOperation operation = static_cast<VmOperation>(i);
      const absl::Status status = CheckTransition("vm", state, operation);
      EXPECT_EQ(status.ok(), allowed.contains(operation))
          << VmStateName(state) << " " << VmOperationName(operation);
      if (status.ok()) continue;
      EXPECT_EQ(ReasonOf(status), "WRONG_STATE");
      EXPECT_THAT(status,
                  StatusIs(absl::StatusCode::kFailedPrecondition,
                           AllOf(HasSubstr(VmStateName(state)),
                                 HasSubstr(VmOperationName(operation)), HasSubstr("allowed are"))));
    }
  }
}

TEST(VmTransitionsTest, UnknownNumbersAllowNothing) {
  EXPECT_FALSE(IsAllowed(static_cast<VmState>(99), kStart));
  EXPECT_FALSE(IsAllowed(static_cast<VmState>(0), kDeleteForce));
}

TEST(PageTokenTest, RoundTripAndRefusal) {
  EXPECT_THAT(DecodePageToken(EncodePageToken("web-1")), IsOkAndHolds("web-1"));
  EXPECT_THAT(DecodePageToken(""), IsOkAndHolds(""));
  for (const std::string& token : {std::string("x"), std::string("web-1"), EncodePageToken("No"),
                                   EncodePageToken("a") + "!", std::string(10000, 'A')})
    EXPECT_EQ(ReasonOf(DecodePageToken(token).status()), "INVALID_PAGE_TOKEN") << token;
  EXPECT_THAT(EffectivePageSize(0), IsOkAndHolds(100));
  EXPECT_THAT(EffectivePageSize(5000), IsOkAndHolds(1000));
  EXPECT_FALSE(EffectivePageSize(-1).ok());
}

}  // namespace
}  // namespace drover
