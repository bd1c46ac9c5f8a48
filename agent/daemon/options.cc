#include "agent/daemon/options.h"

#include <pwd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "agent/cli/args.h"
#include "agent/jail/cgroup.h"
#include "agent/metrics/metrics_server.h"
#include "agent/service/listen_address.h"
#include "vmm/base/status.h"
#include "vmm/core/capabilities.h"

namespace drover {
namespace {

const std::vector<FlagSpec>& Flags() {
  static const auto& flags = *new std::vector<FlagSpec>{
      {"state-dir", 0, "DIR", "where VMs are remembered (/var/lib/drover)"},
      {"listen", 0, "PATH",
       "the unix socket to serve, mode 0660; empty for none (/run/drover/agent.sock)"},
      {"insecure-listen", 0, "ADDRESS",
       "serve TCP without any protection too: loopback only, such as 127.0.0.1:8080 (none)"},
      {"metrics-listen", 0, "ADDRESS",
       "where Prometheus scrapes /metrics; empty for nowhere (127.0.0.1:9464)"},
      {"image-dir", 0, "DIR",
       "where kernels and initrds may lie; may be repeated (STATE_DIR/images)"},
      {"user", 0, "USER",
       "whom the agent runs as: a name or a uid (drover if it exists, or 65533)"},
      {"worker-uids", 0, "FIRST-LAST",
       "the uids that workers get, one each (2000000000-2000065535)"},
      {"worker", 0, "FILE", "the worker program (drover-vmm beside this program)"},
      {"helper", 0, "FILE", "the helper program (drover-helper beside this program)"},
      {"cgroup-parent", 0, "PATH", "the cgroup above the workers', below the root (drover)"},
      {"spares", 0, "N", "jailed workers kept waiting, 0 to 64: they make starts fast (2)"},
      {"max-vms", 0, "N", "how many VMs there may be, 1 to 100000 (1000)"},
      {"reserve-memory", 0, "SIZE", "memory kept from VMs: MiB, or 512M, 1G (256M)"},
      {"withhold-capability", 0, "NAME",
       "let VMs do without what the host can do, such as dirty_ring_bytes; may be repeated"},
      {"log-level", 0, "LEVEL", "the least that is logged (info)", "debug info warning error"},
      {"help", 'h', "", "this help"},
      {"version", 0, "", "the version"},
  };
  return flags;
}

std::string VariableOf(const std::string& flag) {
  return "DROVER_AGENT_" + absl::AsciiStrToUpper(absl::StrReplaceAll(flag, {{"-", "_"}}));
}

// The command line, and the environment for what it leaves out.
class Source {
 public:
  Source(const ParsedArgs& args, const Environment& environment)
      : args_(args), environment_(environment) {}

  std::string Get(const std::string& flag, const std::string& fallback) const {
    if (args_.Has(flag)) return args_.Get(flag);
    const std::string value = environment_(VariableOf(flag));
    return value.empty() ? fallback : value;
  }
  std::vector<std::string> GetAll(const std::string& flag) const {
    if (args_.Has(flag)) return args_.GetAll(flag);
    return absl::StrSplit(environment_(VariableOf(flag)), ':', absl::SkipEmpty());
  }

 private:
  const ParsedArgs& args_;
  const Environment& environment_;
};

absl::Status InFlag(const char* flag, const absl::Status& status) {
  return Annotate(status, absl::StrCat("--", flag));
}

absl::StatusOr<std::string> AbsolutePath(const Source& source, const char* flag,
                                         const std::string& fallback) {
  const std::string path = source.Get(flag, fallback);
  if (absl::StartsWith(path, "/")) return path;
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is \"", path, "\"; it must be an absolute path"));
}

absl::StatusOr<uint32_t> Number(const Source& source, const char* flag, uint32_t fallback,
                                uint32_t least, uint32_t most) {
  const std::string text = source.Get(flag, absl::StrCat(fallback));
  uint32_t value = 0;
  if (absl::SimpleAtoi(text, &value) && value >= least && value <= most) return value;
  return absl::InvalidArgumentError(absl::StrCat(
      "--", flag, " is \"", text, "\"; it must be a number from ", least, " to ", most));
}

absl::Status ReadPaths(const Source& source, const std::string& program_dir,
                       DaemonOptions* options) {
  ASSIGN_OR_RETURN(options->state_dir, AbsolutePath(source, "state-dir", options->state_dir));
  ASSIGN_OR_RETURN(options->worker, AbsolutePath(source, "worker", program_dir + "/drover-vmm"));
  ASSIGN_OR_RETURN(options->helper, AbsolutePath(source, "helper", program_dir + "/drover-helper"));
  options->image_dirs = source.GetAll("image-dir");
  if (options->image_dirs.empty()) options->image_dirs = {options->state_dir + "/images"};
  for (const std::string& directory : options->image_dirs)
    if (!absl::StartsWith(directory, "/"))
      return absl::InvalidArgumentError(
          absl::StrCat("--image-dir is \"", directory, "\"; it must be an absolute path"));
  options->cgroup_parent = source.Get("cgroup-parent", options->cgroup_parent);
  return InFlag("cgroup-parent", CheckCgroupParent(options->cgroup_parent));
}

// An empty value means "none", which the environment can only leave unset.
absl::Status ReadListeners(const ParsedArgs& args, const Source& source, DaemonOptions* options) {
  options->listen =
      args.Has("listen") && args.Get("listen").empty() ? "" : source.Get("listen", options->listen);
  if (!options->listen.empty() && !absl::StartsWith(options->listen, "/"))
    return absl::InvalidArgumentError(
        absl::StrCat("--listen is \"", options->listen, "\"; it must be an absolute path"));
  options->insecure_listen = source.Get("insecure-listen", "");
  if (!options->insecure_listen.empty())
    RETURN_IF_ERROR(InFlag("insecure-listen", CheckLoopbackAddress(options->insecure_listen)));
  if (options->listen.empty() && options->insecure_listen.empty())
    return absl::InvalidArgumentError(
        "--listen is empty and there is no --insecure-listen: "
        "nobody could reach the agent");
  options->metrics_listen = source.Get("metrics-listen", options->metrics_listen);
  if (!options->metrics_listen.empty())
    RETURN_IF_ERROR(InFlag("metrics-listen", CheckMetricsAddress(options->metrics_listen)));
  return absl::OkStatus();
}

// A worker that shared its uid with an account would share its files and limits.
absl::Status CheckNobodysUids(const UidRange& range) {
  std::string account;
  uint32_t uid = 0;
  setpwent();
  while (const struct passwd* entry = getpwent()) {
    if (!account.empty() || entry->pw_uid < range.first || entry->pw_uid > range.last) continue;
    account = entry->pw_name;
    uid = entry->pw_uid;
  }
  endpwent();
  if (account.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--worker-uids ", range.first, "-", range.last, " holds ", uid, ", which is the account \"",
      account, "\"; choose ids that are nobody's, such as 2000000000-2000065535"));
}

bool IsIn(const UidRange& range, uint32_t id) { return id >= range.first && id <= range.last; }

absl::Status ReadUsers(const Source& source, DaemonOptions* options) {
  absl::StatusOr<AgentUser> user = ResolveAgentUser(source.Get("user", ""));
  if (!user.ok()) return InFlag("user", user.status());
  options->user = *user;
  const std::string uids = source.Get("worker-uids", "");
  if (!uids.empty()) {
    absl::StatusOr<UidRange> range = ParseUidRange(uids);
    if (!range.ok()) return InFlag("worker-uids", range.status());
    options->worker_uids = *range;
  }
  // Workers' group ids are the same numbers.
  if (IsIn(options->worker_uids, user->uid) || IsIn(options->worker_uids, user->gid))
    return absl::InvalidArgumentError(absl::StrCat(
        "--user is uid ", user->uid, " and gid ", user->gid, ", which is one of --worker-uids ",
        options->worker_uids.first, "-", options->worker_uids.last, "; choose one outside"));
  return CheckNobodysUids(options->worker_uids);
}

absl::Status ReadNumbers(const Source& source, DaemonOptions* options) {
  ASSIGN_OR_RETURN(options->spares, Number(source, "spares", options->spares, 0, 64));
  ASSIGN_OR_RETURN(const uint32_t max_vms, Number(source, "max-vms", 1000, 1, 100000));
  options->max_vms = static_cast<int32_t>(max_vms);
  const absl::StatusOr<int32_t> reserved = ParseMemoryMib(source.Get("reserve-memory", "256M"));
  if (!reserved.ok()) return InFlag("reserve-memory", reserved.status());
  options->reserve_memory_mib = *reserved;
  const std::string level = source.Get("log-level", "info");
  if (!ParseLogLevel(level, &options->log_level))
    return absl::InvalidArgumentError(
        absl::StrCat("--log-level is \"", level, "\"; it can be one of: debug info warning error"));
  return absl::OkStatus();
}

absl::Status ReadProfile(const Source& source, DaemonOptions* options) {
  options->withheld = source.GetAll("withhold-capability");
  return InFlag("withhold-capability", BackendCapabilities().WithholdAll(options->withheld));
}

}  // namespace

absl::StatusOr<DaemonOptions> ParseDaemonOptions(const std::vector<std::string>& args,
                                                 const Environment& environment,
                                                 const std::string& program_dir) {
  ASSIGN_OR_RETURN(const ParsedArgs parsed, ParseArgs(args, Flags()));
  DaemonOptions options;
  options.help = parsed.Has("help");
  options.version = parsed.Has("version");
  if (options.help || options.version) return options;
  if (!parsed.positional().empty())
    return absl::InvalidArgumentError(
        absl::StrCat("there is no use for \"", parsed.positional()[0], "\"; see --help"));
  const Source source(parsed, environment);
  RETURN_IF_ERROR(ReadPaths(source, program_dir, &options));
  RETURN_IF_ERROR(ReadListeners(parsed, source, &options));
  RETURN_IF_ERROR(ReadUsers(source, &options));
  RETURN_IF_ERROR(ReadNumbers(source, &options));
  RETURN_IF_ERROR(ReadProfile(source, &options));
  return options;
}

std::string DaemonHelp() {
  std::string help =
      "drover-agent serves the drover.v1 API of this host. Start it as root; it keeps no "
      "privilege.\n\nExamples:\n"
      "  drover-agent\n"
      "  drover-agent --state-dir /tmp/d --listen /tmp/d/agent.sock --metrics-listen ''\n"
      "  drover-agent --image-dir /srv/images --max-vms 200 --log-level debug\n\nOptions:\n";
  for (const FlagSpec& flag : Flags()) {
    std::string left = absl::StrCat("  --", flag.name, flag.value.empty() ? "" : " ", flag.value);
    left.resize(std::max<size_t>(left.size() + 2, 28), ' ');
    absl::StrAppend(&help, left, flag.help, "\n");
  }
  absl::StrAppend(&help,
                  "\nEach option can also be given in the environment: DROVER_AGENT_STATE_DIR, "
                  "...\nSIGTERM ends the agent; its VMs run on, and the next agent adopts them.\n"
                  "Exit codes: 0 ended by a signal, 1 an error, 2 the command line is wrong.\n");
  return help;
}

}  // namespace drover
