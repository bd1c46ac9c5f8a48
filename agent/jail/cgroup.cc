#include "agent/jail/cgroup.h"

#include <dirent.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint32_t kSpareTasks = 32;  // threads of a worker that run no vCPU

}  // namespace

absl::Status CheckCgroupParent(const std::string& parent) {
  for (const absl::string_view part : absl::StrSplit(parent, '/'))
    if (part.empty() || part == "." || part == "..")
      return absl::InvalidArgumentError(
          absl::StrCat("\"", parent, "\" is no path of a cgroup: it has a part that is ",
                       part.empty() ? "empty" : absl::StrCat("\"", part, "\""),
                       "; give one below the root, such as drover or system.slice/drover"));
  return absl::OkStatus();
}

CgroupLimits CgroupLimits::ForGuest(uint32_t vcpus, uint64_t memory_bytes) {
  return {.memory_bytes = memory_bytes + memory_bytes / 128 + (64 + uint64_t{vcpus}) * kMiB,
          .cpu_percent = vcpus * 100 + 50,
          .tasks = vcpus + kSpareTasks};
}

absl::StatusOr<std::unique_ptr<Cgroups>> OpenCgroups(const std::string& parent,
                                                     const std::string& root) {
  RETURN_IF_ERROR(CheckCgroupParent(parent));
  struct statfs info;
  if (statfs(root.c_str(), &info) != 0)
    return WithReason(absl::FailedPreconditionError(absl::StrCat("no cgroups at ", root)),
                      "CGROUPS_UNUSABLE");
  auto cgroups = static_cast<uint32_t>(info.f_type) == CGROUP2_SUPER_MAGIC
                     ? OpenCgroupsV2(parent, root)
                     : OpenCgroupsV1(parent, root);
  if (cgroups.ok()) return cgroups;
  const absl::Status& cause = cgroups.status();
  absl::Status status = absl::FailedPreconditionError(
      absl::StrCat("the cgroup \"", parent, "\" cannot be used: ", cause.message()));
  if (const auto error = PosixErrno(cause)) status = WithPosixErrno(std::move(status), *error);
  return WithReason(std::move(status), "CGROUPS_UNUSABLE");
}

absl::StatusOr<std::vector<std::string>> ListGroups(const std::string& directory) {
  DIR* const stream = opendir(directory.c_str());
  if (stream == nullptr) return PosixStatus(errno, "opendir", directory);
  std::vector<std::string> names;
  while (const struct dirent* entry = readdir(stream))
    if (entry->d_type == DT_DIR && entry->d_name[0] != '.') names.push_back(entry->d_name);
  closedir(stream);
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status RemoveGroup(const std::string& directory) {
  if (rmdir(directory.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  if (errno == EBUSY) return absl::UnavailableError(absl::StrCat(directory, " is in use"));
  return PosixStatus(errno, "rmdir", directory);
}

absl::Status MakeGroups(const std::string& root, const std::string& path) {
  std::string directory = root;
  for (const absl::string_view part : absl::StrSplit(path, '/')) {
    absl::StrAppend(&directory, "/", part);
    if (mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST)
      return PosixStatus(errno, "mkdir", directory);
  }
  return absl::OkStatus();
}

absl::Status KillListed(const std::string& directory) {
  const std::string path = directory + "/cgroup.procs";
  const absl::StatusOr<std::string> text = ReadSmallFile(path.c_str());
  if (!text.ok() && PosixErrno(text.status()) == ENOENT) return absl::OkStatus();
  if (!text.ok()) return text.status();
  for (const absl::string_view word : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    pid_t pid;
    if (absl::SimpleAtoi(word, &pid) && pid > 0) kill(pid, SIGKILL);
  }
  return absl::OkStatus();
}

absl::Status WriteKnob(const std::string& directory, const char* knob, uint64_t value) {
  return WriteExisting(absl::StrCat(directory, "/", knob).c_str(), absl::StrCat(value));
}

}  // namespace drover
