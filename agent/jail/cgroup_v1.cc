#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "agent/jail/cgroup.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr const char* kHierarchies[] = {"freezer", "memory", "cpu", "pids"};
constexpr uint64_t kPeriodMicros = 100000;  // a new group's

// Control Groups version 1: a group is a directory of the same name in each hierarchy. A process is
// in it when it is in the freezer's.
class CgroupsV1 : public Cgroups {
 public:
  CgroupsV1(std::string root, std::string parent)
      : root_(std::move(root)), parent_(std::move(parent)) {}

  uint32_t version() const override { return 1; }
  std::string PathOf(const std::string& name) const override {
    return absl::StrCat("/", parent_, "/", name);
  }

  absl::Status Create(const std::string& name) override {
    for (const char* hierarchy : kHierarchies) {
      const std::string directory = DirectoryOf(hierarchy, name);
      if (mkdir(directory.c_str(), 0755) == 0) continue;
      const int error = errno;
      for (const char* made : kHierarchies) {
        if (made == hierarchy) break;
        RemoveGroup(DirectoryOf(made, name)).IgnoreError();
      }
      return PosixStatus(error, "mkdir", directory);
    }
    return absl::OkStatus();
  }

  // "tasks", as only a thread that moves itself, alone, does not wait for other processes' forks.
  absl::StatusOr<CgroupEntry> Enter(const std::string& name) override {
    CgroupEntry entry;
    for (const char* hierarchy : kHierarchies) {
      ASSIGN_OR_RETURN(Fd tasks,
                       OpenFile((DirectoryOf(hierarchy, name) + "/tasks").c_str(), O_WRONLY));
      entry.joins.push_back(std::move(tasks));
    }
    return entry;
  }

  absl::Status SetLimits(const std::string& name, const CgroupLimits& limits) override {
    RETURN_IF_ERROR(SetMemory(DirectoryOf("memory", name), limits.memory_bytes));
    const std::string cpu = DirectoryOf("cpu", name);
    RETURN_IF_ERROR(WriteKnob(cpu, "cpu.cfs_quota_us", limits.cpu_percent * (kPeriodMicros / 100)));
    return WriteKnob(DirectoryOf("pids", name), "pids.max", limits.tasks);
  }

  // Frozen, nobody forks; SIGKILL waits for the thaw.
  absl::Status Kill(const std::string& name) override {
    const std::string directory = DirectoryOf("freezer", name);
    const std::string state = directory + "/freezer.state";
    if (access(state.c_str(), F_OK) != 0) return absl::OkStatus();
    RETURN_IF_ERROR(WriteExisting(state.c_str(), "FROZEN"));
    const absl::Status killed = KillListed(directory);
    RETURN_IF_ERROR(WriteExisting(state.c_str(), "THAWED"));
    return killed;
  }

  // The freezer last: List names the group until all of it is gone.
  absl::Status Remove(const std::string& name) override {
    for (auto it = std::rbegin(kHierarchies); it != std::rend(kHierarchies); ++it)
      RETURN_IF_ERROR(RemoveGroup(DirectoryOf(*it, name)));
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> List() const override {
    return ListGroups(absl::StrCat(root_, "/freezer/", parent_));
  }

 private:
  // The limit of memory is never above that of memory and swap, so one that grows comes second.
  static absl::Status SetMemory(const std::string& directory, uint64_t bytes) {
    const char* const memory = "memory.limit_in_bytes";
    const char* const with_swap = "memory.memsw.limit_in_bytes";
    const absl::Status first = WriteKnob(directory, memory, bytes);
    if (access(absl::StrCat(directory, "/", with_swap).c_str(), F_OK) != 0) return first;
    RETURN_IF_ERROR(WriteKnob(directory, with_swap, bytes));
    return first.ok() ? first : WriteKnob(directory, memory, bytes);
  }

  std::string DirectoryOf(const char* hierarchy, const std::string& name) const {
    return absl::StrCat(root_, "/", hierarchy, "/", parent_, "/", name);
  }

  const std::string root_;
  const std::string parent_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Cgroups>> OpenCgroupsV1(const std::string& parent,
                                                       const std::string& root) {
  for (const char* hierarchy : kHierarchies) {
    const std::string mounted = absl::StrCat(root, "/", hierarchy);
    if (access((mounted + "/cgroup.procs").c_str(), F_OK) != 0)
      return PosixStatus(errno, "the cgroup v1 hierarchy", mounted);
    RETURN_IF_ERROR(MakeGroups(mounted, parent));
    if (access(absl::StrCat(mounted, "/", parent).c_str(), W_OK) != 0)
      return PosixStatus(errno, "write access to", absl::StrCat(mounted, "/", parent));
  }
  return std::make_unique<CgroupsV1>(root, parent);
}

}  // namespace drover
