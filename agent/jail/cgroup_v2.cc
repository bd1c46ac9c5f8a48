#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/jail/cgroup.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr char kControllers[] = "+cpu +memory +pids";
constexpr uint64_t kPeriodMicros = 100000;

// Control Groups version 2 (Documentation/admin-guide/cgroup-v2.rst).
class CgroupsV2 : public Cgroups {
 public:
  CgroupsV2(std::string root, std::string parent)
      : root_(std::move(root)), parent_(std::move(parent)) {}

  uint32_t version() const override { return 2; }
  std::string PathOf(const std::string& name) const override {
    return absl::StrCat("/", parent_, "/", name);
  }

  absl::Status Create(const std::string& name) override {
    if (mkdir(DirectoryOf(name).c_str(), 0755) == 0) return absl::OkStatus();
    return PosixStatus(errno, "mkdir", DirectoryOf(name));
  }

  absl::StatusOr<CgroupEntry> Enter(const std::string& name) override {
    CgroupEntry entry;
    ASSIGN_OR_RETURN(entry.clone_target,
                     OpenFile(DirectoryOf(name).c_str(), O_RDONLY | O_DIRECTORY));
    return entry;
  }

  absl::Status SetLimits(const std::string& name, const CgroupLimits& limits) override {
    const std::string directory = DirectoryOf(name);
    RETURN_IF_ERROR(WriteKnob(directory, "memory.max", limits.memory_bytes));
    if (access((directory + "/memory.swap.max").c_str(), F_OK) == 0)
      RETURN_IF_ERROR(WriteKnob(directory, "memory.swap.max", 0));
    const uint64_t quota = limits.cpu_percent * (kPeriodMicros / 100);
    RETURN_IF_ERROR(
        WriteExisting((directory + "/cpu.max").c_str(), absl::StrCat(quota, " ", kPeriodMicros)));
    return WriteKnob(directory, "pids.max", limits.tasks);
  }

  absl::Status Kill(const std::string& name) override {
    const std::string directory = DirectoryOf(name);
    const absl::Status killed = WriteKnob(directory, "cgroup.kill", 1);
    if (killed.ok() || PosixErrno(killed) != ENOENT) return killed;
    return KillListed(directory);  // before Linux 5.14, or no such group
  }

  absl::Status Remove(const std::string& name) override { return RemoveGroup(DirectoryOf(name)); }

  absl::StatusOr<std::vector<std::string>> List() const override {
    return ListGroups(absl::StrCat(root_, "/", parent_));
  }

 private:
  std::string DirectoryOf(const std::string& name) const {
    return absl::StrCat(root_, "/", parent_, "/", name);
  }

  const std::string root_;
  const std::string parent_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Cgroups>> OpenCgroupsV2(const std::string& parent,
                                                       const std::string& root) {
  RETURN_IF_ERROR(MakeGroups(root, parent));
  std::string directory = root;
  RETURN_IF_ERROR(WriteExisting((directory + "/cgroup.subtree_control").c_str(), kControllers));
  for (const absl::string_view part : absl::StrSplit(parent, '/')) {
    absl::StrAppend(&directory, "/", part);
    RETURN_IF_ERROR(WriteExisting((directory + "/cgroup.subtree_control").c_str(), kControllers));
  }
  return std::make_unique<CgroupsV2>(root, parent);
}

}  // namespace drover
