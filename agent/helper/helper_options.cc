#include "agent/helper/helper_options.h"

#include <functional>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr uint32_t kMaxSpares = 64;

using Setter = std::function<absl::Status(const std::string& value)>;

Setter Text(std::string* target) {
  return [target](const std::string& value) {
    *target = value;
    return absl::OkStatus();
  };
}

template <typename T>
Setter Number(T* target, T maximum) {
  return [target, maximum](const std::string& value) {
    T number;
    if (!absl::SimpleAtoi(value, &number) || number > maximum)
      return absl::InvalidArgumentError(absl::StrCat("not a number up to ", maximum));
    *target = number;
    return absl::OkStatus();
  };
}

absl::Status Check(const HelperOptions& options) {
  if (!absl::StartsWith(options.state_dir, "/"))
    return absl::InvalidArgumentError("--state-dir must be an absolute path");
  if (options.worker.empty()) return absl::InvalidArgumentError("--worker is missing");
  return absl::OkStatus();
}

std::map<std::string, Setter> Setters(HelperOptions* options) {
  return {
      {"--state-dir", Text(&options->state_dir)},
      {"--worker", Text(&options->worker)},
      {"--cgroup-parent", Text(&options->cgroup_parent)},
      {"--cgroup-root", Text(&options->cgroup_root)},
      {"--kvm-device", Text(&options->kvm_device)},
      {"--userfaultfd-device", Text(&options->userfaultfd_device)},
      {"--agent-gid", Number<uint32_t>(&options->agent_gid, UINT32_MAX - 1)},
      {"--spares", Number<uint32_t>(&options->spares, kMaxSpares)},
      {"--lock-fd", Number<int>(&options->lock_fd, 1 << 20)},
      {"--image-dir",
       [options](const std::string& value) {
         options->image_directories.push_back(value);
         return absl::OkStatus();
       }},
      {"--uid-range",
       [options](const std::string& value) -> absl::Status {
         ASSIGN_OR_RETURN(options->uids, ParseUidRange(value));
         return absl::OkStatus();
       }},
  };
}

}  // namespace

std::vector<std::string> FormatHelperArguments(const HelperOptions& options) {
  std::vector<std::string> arguments = {
      absl::StrCat("--state-dir=", options.state_dir),
      absl::StrCat("--worker=", options.worker),
      absl::StrCat("--uid-range=", options.uids.first, "-", options.uids.last),
      absl::StrCat("--cgroup-parent=", options.cgroup_parent),
      absl::StrCat("--cgroup-root=", options.cgroup_root),
      absl::StrCat("--kvm-device=", options.kvm_device),
      absl::StrCat("--userfaultfd-device=", options.userfaultfd_device),
      absl::StrCat("--agent-gid=", options.agent_gid),
      absl::StrCat("--spares=", options.spares),
  };
  for (const std::string& directory : options.image_directories)
    arguments.push_back(absl::StrCat("--image-dir=", directory));
  if (options.lock_fd >= 0) arguments.push_back(absl::StrCat("--lock-fd=", options.lock_fd));
  return arguments;
}

absl::StatusOr<HelperOptions> ParseHelperArguments(const std::vector<std::string>& arguments) {
  HelperOptions options;
  const std::map<std::string, Setter> setters = Setters(&options);
  for (const std::string& argument : arguments) {
    const size_t equals = argument.find('=');
    const auto setter = setters.find(argument.substr(0, equals));
    if (equals == std::string::npos || setter == setters.end())
      return absl::InvalidArgumentError(absl::StrCat("unknown argument: ", argument));
    RETURN_IF_ERROR(Annotate(setter->second(argument.substr(equals + 1)), argument));
  }
  RETURN_IF_ERROR(Check(options));
  return options;
}

}  // namespace drover
