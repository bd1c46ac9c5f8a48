#include "agent/vms/vm_transitions.h"

#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr uint32_t Bit(VmOperation operation) { return 1u << static_cast<int>(operation); }

constexpr uint32_t kStart = Bit(VmOperation::kStart);
constexpr uint32_t kStop = Bit(VmOperation::kStop);
constexpr uint32_t kPause = Bit(VmOperation::kPause);
constexpr uint32_t kResume = Bit(VmOperation::kResume);
constexpr uint32_t kReboot = Bit(VmOperation::kReboot);
constexpr uint32_t kDelete = Bit(VmOperation::kDelete);
constexpr uint32_t kDeleteForce = Bit(VmOperation::kDeleteForce);
constexpr uint32_t kConsole = Bit(VmOperation::kAttachConsole);

struct Row {
  const char* name;
  uint32_t allowed;
};

// By VmState's number. A stop in `stopping` may shorten the grace of the one under way.
constexpr Row kTable[] = {
    {"unspecified", 0},
    {"created", kStart | kDelete | kDeleteForce},
    {"starting", kStop | kDeleteForce | kConsole},
    {"running", kStop | kPause | kReboot | kDeleteForce | kConsole},
    {"paused", kStop | kResume | kReboot | kDeleteForce | kConsole},
    {"stopping", kStop | kDeleteForce | kConsole},
    {"stopped", kStart | kDelete | kDeleteForce},
    {"failed", kStart | kDelete | kDeleteForce},
    {"unknown", kStop | kDeleteForce},
};

const Row& RowOf(VmState state) {
  const size_t index = static_cast<size_t>(state);
  return kTable[index < std::size(kTable) ? index : 0];
}

std::string AllowedIn(VmState state) {
  std::vector<std::string> names;
  for (int i = 0; i < kVmOperations; ++i)
    if (IsAllowed(state, static_cast<VmOperation>(i)))
      names.push_back(VmOperationName(static_cast<VmOperation>(i)));
  return absl::StrJoin(names, ", ");
}

}  // namespace

const char* VmStateName(VmState state) { return RowOf(state).name; }

const char* VmOperationName(VmOperation operation) {
  static constexpr const char* kNames[] = {"start",  "stop",   "pause",           "resume",
                                           "reboot", "delete", "delete by force", "console"};
  return kNames[static_cast<int>(operation)];
}

bool IsAllowed(VmState state, VmOperation operation) {
  return (RowOf(state).allowed & Bit(operation)) != 0;
}

absl::Status CheckTransition(const std::string& id, VmState state, VmOperation operation) {
  if (IsAllowed(state, operation)) return absl::OkStatus();
  return WithReason(absl::FailedPreconditionError(absl::StrCat(
                        "VM ", id, " is ", VmStateName(state), ": ", VmOperationName(operation),
                        " is not possible; allowed are ", AllowedIn(state))),
                    "WRONG_STATE");
}

}  // namespace drover
