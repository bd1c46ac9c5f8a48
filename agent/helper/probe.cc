#include "agent/helper/probe.h"

#include <sys/stat.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

void ProbeCgroups(WorkerSlots* slots, HelperProbe* probe) {
  const absl::StatusOr<Cgroups*> cgroups = slots->cgroups();
  if (cgroups.ok()) {
    probe->cgroup_version = (*cgroups)->version();
  } else {
    probe->warnings.push_back(std::string(cgroups.status().message()));
  }
}

void ProbeDirectories(HelperProbe* probe) {
  for (const std::string& path : probe->image_directories) {
    struct stat info;
    if (stat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
      probe->warnings.push_back(absl::StrCat("the image directory ", path, " does not exist"));
  }
}

}  // namespace

std::map<std::string, std::string> ParseCapabilities(absl::string_view text) {
  std::map<std::string, std::string> capabilities;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const size_t equals = line.find('=');
    if (equals == absl::string_view::npos || equals == 0) continue;
    capabilities[std::string(line.substr(0, equals))] = std::string(line.substr(equals + 1));
  }
  return capabilities;
}

HelperProbe ProbeHost(const HelperOptions& options, WorkerSlots* slots) {
  HelperProbe probe;
  probe.image_directories = options.image_directories;
  probe.warnings = slots->namespaces().warnings;
  ProbeCgroups(slots, &probe);
  ProbeDirectories(&probe);
  const absl::StatusOr<Fd> kvm = OpenKvm(options.kvm_device);
  if (!kvm.ok()) {
    probe.kvm_unusable = std::string(kvm.status().message());
    return probe;
  }
  const absl::StatusOr<std::string> output = slots->RunToEnd("--probe");
  if (output.ok()) {
    probe.capabilities = ParseCapabilities(*output);
  } else {
    probe.kvm_unusable = absl::StrCat(options.worker, " --probe: ", output.status().message());
  }
  return probe;
}

}  // namespace drover
