#include <chrono>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/vms/fake_host.h"
#include "agent/vms/vm_manager.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::IsEmpty;

// One life of a VM, as clients drive it; each returns whether the client was told that it worked.
using Deed = std::function<bool(VmManager&)>;
struct Step {
  const char* name;
  Deed deed;
  // What a client that was told so may rely on, whenever the agent dies afterwards; 0 for gone.
  int promised;
};

template <typename T>
bool Good(const T& result) {
  return result.ok();
}

const std::vector<Step>& Life() {
  constexpr int kGone = 0;
  static const auto* life = new std::vector<Step>{
      {"create", [](VmManager& m) { return Good(m.Create(FakeHost::Params("a"))); },
       static_cast<int>(VmState::kCreated)},
      {"start", [](VmManager& m) { return Good(m.Start("a", "")); },
       static_cast<int>(VmState::kRunning)},
      {"pause", [](VmManager& m) { return Good(m.Pause("a", "")); },
       static_cast<int>(VmState::kPaused)},
      {"resume", [](VmManager& m) { return Good(m.Resume("a", "")); },
       static_cast<int>(VmState::kRunning)},
      {"reboot", [](VmManager& m) { return Good(m.Reboot("a", "")); },
       static_cast<int>(VmState::kRunning)},
      {"stop", [](VmManager& m) { return Good(m.Stop("a", "", milliseconds(5), false)); },
       static_cast<int>(VmState::kStopped)},
      {"start again", [](VmManager& m) { return Good(m.Start("a", "")); },
       static_cast<int>(VmState::kRunning)},
      {"force stop", [](VmManager& m) { return Good(m.Stop("a", "", seconds(9), true)); },
       static_cast<int>(VmState::kStopped)},
      {"third start", [](VmManager& m) { return Good(m.Start("a", "")); },
       static_cast<int>(VmState::kRunning)},
      {"delete", [](VmManager& m) { return Good(m.Delete("a", "", true, false)); }, kGone},
  };
  return *life;
}

// How many deeds were done before the agent died.
size_t Live(FakeHost* host) {
  size_t done = 0;
  for (const Step& step : Life()) {
    if (!step.deed(host->agent())) break;
    ++done;
  }
  return done;
}

std::set<std::string> NamedWorkers(FakeHost* host) {
  std::set<std::string> named;
  const std::vector<VmRecord> records = *host->registry.Load();
  for (const VmRecord& record : records)
    if (!record.instance_id.empty()) named.insert(record.instance_id);
  return named;
}

int StateNumber(FakeHost* host) {
  const auto view = host->agent().Get("a");
  return view.ok() ? static_cast<int>(view->state) : 0;
}

bool Settled(int state) {
  return state != static_cast<int>(VmState::kUnknown) &&
         state != static_cast<int>(VmState::kStopping) &&
         state != static_cast<int>(VmState::kStarting);
}

// The state that the deed in progress began from, or that it would have ended in.
void ExpectNothingLost(FakeHost* host, size_t done) {
  EXPECT_TRUE(FakeHost::Eventually([&] { return Settled(StateNumber(host)); }));
  const int state = StateNumber(host);
  const int before = done == 0 ? 0 : Life()[done - 1].promised;
  const int after = done < Life().size() ? Life()[done].promised : before;
  EXPECT_TRUE(state == before || state == after)
      << "after " << done << " deeds: state " << state << ", not " << before << " or " << after;
}

void ExpectNothingLeaked(FakeHost* host) {
  EXPECT_EQ(host->agent().remaining_orphans(), 0u);
  EXPECT_EQ(host->helper.instances(), NamedWorkers(host));
  EXPECT_OK(host->agent().Delete("a", "", true, true));
  EXPECT_THAT(host->helper.instances(), IsEmpty());
  EXPECT_THAT(host->registry.Load(), IsOkAndHolds(IsEmpty()));
}

void ShortenLimits(FakeHost* host) {
  host->limits.stop_call = host->limits.stop_exit = host->limits.kill_exit = milliseconds(200);
  host->limits.hangup = milliseconds(20);
  host->limits.stop_slack = milliseconds(10);
  host->limits.operation_wait = seconds(5);
}

// The agent is killed before each of its effects in turn: a write, or a call of the helper.
TEST(VmCrashTest, AtEveryStep) {
  size_t done = 0;
  for (int at = 1; done < Life().size(); ++at) {
    ASSERT_LT(at, 200);
    SCOPED_TRACE(absl::StrCat("killed at step ", at));
    FakeHost host;
    ShortenLimits(&host);
    host.StartAgent();
    host.CrashAgentAt(at);
    done = Live(&host);
    host.StartAgent();
    ExpectNothingLost(&host, done);
    ExpectNothingLeaked(&host);
  }
}

// Killed at a step, and the worker ends at the same time.
TEST(VmCrashTest, WithTheWorker) {
  size_t done = 0;
  for (int at = 1; done < Life().size(); ++at) {
    SCOPED_TRACE(absl::StrCat("killed at step ", at));
    FakeHost host;
    ShortenLimits(&host);
    host.StartAgent();
    host.CrashAgentAt(at);
    done = Live(&host);
    if (host.Launches() > 0) host.worker()->Fail("TRIPLE_FAULT");
    host.StartAgent();
    EXPECT_TRUE(FakeHost::Eventually([&] {
      const int state = StateNumber(&host);
      return Settled(state) && state != static_cast<int>(VmState::kRunning) &&
             state != static_cast<int>(VmState::kPaused);
    })) << StateNumber(&host);
    ExpectNothingLeaked(&host);
  }
}

// Killed while it records a worker's end, which only the last words tell.
TEST(VmCrashTest, LastWordsOutliveTheAgent) {
  for (int at = 1; at <= 6; ++at) {
    SCOPED_TRACE(absl::StrCat("killed at step ", at));
    FakeHost host;
    host.StartAgent();
    host.Run("a");
    host.CrashAgentAt(at);
    host.worker()->EndQuietly({ReportedState::kFailed, "EMULATION_FAILED", "it broke", 1});
    EXPECT_TRUE(FakeHost::Eventually(
        [&] { return host.agent_crashed() || host.helper.instances().empty(); }));
    host.StartAgent();
    const VmView view = host.Await("a", VmState::kFailed);
    EXPECT_EQ(view.state_reason, "EMULATION_FAILED");
    ExpectNothingLeaked(&host);
  }
}

// Killed again while the next agent adopts.
TEST(VmCrashTest, Twice) {
  size_t done = 0;
  for (int at = 1; done < Life().size(); at += 3) {
    for (int again = 2; again <= 4; ++again) {
      SCOPED_TRACE(absl::StrCat("killed at step ", at, " and then ", again));
      FakeHost host;
      ShortenLimits(&host);
      host.StartAgent();
      host.CrashAgentAt(at);
      done = Live(&host);
      host.CrashNextAgentAt(again);
      const auto adoption = std::exchange(host.limits.adoption, milliseconds(50));
      host.StartAgent();
      host.limits.adoption = adoption;
      host.StartAgent();
      ExpectNothingLost(&host, done);
      ExpectNothingLeaked(&host);
    }
  }
}

}  // namespace
}  // namespace drover
