#include "vmm/worker/machine_state.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using enum MachineState;

MachineState At(int i) { return static_cast<MachineState>(i); }

TEST(MachineStateTest, AllPairs) {
  const std::map<MachineState, std::set<MachineState>> allowed = {
      {kCreated, {kStarting, kStopping, kFailed}},
      {kStarting, {kRunning, kStopping, kFailed}},
      {kRunning, {kRunning, kPaused, kStopping, kFailed}},
      {kPaused, {kRunning, kStopping, kFailed}},
      {kStopping, {kStopped, kFailed}},
      {kStopped, {}},
      {kFailed, {}},
  };
  for (int from = 0; from < kMachineStates; ++from)
    for (int to = 0; to < kMachineStates; ++to)
      EXPECT_EQ(MayChange(At(from), At(to)), allowed.at(At(from)).contains(At(to)))
          << MachineStateName(At(from)) << " -> " << MachineStateName(At(to));
}

TEST(MachineStateTest, TerminalIsWrittenOnce) {
  MachineStateCell cell;
  ASSERT_THAT(cell.Change(kFailed, "TRIPLE_FAULT", "first"), IsOk());
  EXPECT_THAT(cell.Change(kStopped, "GUEST_SHUTDOWN"),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       ::testing::HasSubstr("failed cannot become stopped")));
  EXPECT_EQ(cell.status().reason, "TRIPLE_FAULT");
  EXPECT_EQ(cell.status().message, "first");
}

TEST(MachineStateTest, CountsBoots) {
  MachineStateCell cell;
  ASSERT_THAT(cell.Change(kStarting), IsOk());
  ASSERT_THAT(cell.Change(kRunning), IsOk());
  EXPECT_EQ(cell.status().boot_count, 1u);
  ASSERT_THAT(cell.Change(kPaused), IsOk());
  ASSERT_THAT(cell.Change(kRunning), IsOk());
  EXPECT_EQ(cell.status().boot_count, 1u) << "a resume is no boot";
  ASSERT_THAT(cell.Change(kRunning, "GUEST_RESET"), IsOk());
  EXPECT_EQ(cell.status().boot_count, 2u);
  ASSERT_THAT(cell.Change(kPaused), IsOk());
  ASSERT_THAT(cell.Change(kRunning, "RESET_REQUESTED", "", true), IsOk());
  EXPECT_EQ(cell.status().boot_count, 3u);
}

}  // namespace
}  // namespace drover
