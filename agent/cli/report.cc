#include "agent/cli/report.h"

#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "agent/cli/unreachable.h"
#include "agent/service/rpc_error.h"
#include "agent/service/utf8.h"

namespace drover {
namespace {

using Rows = std::vector<std::vector<std::string>>;

constexpr size_t kMaxCellBytes = 4096;

ExitCode ExitCodeFor(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::OK:
      return kExitOk;
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::OUT_OF_RANGE:
      return kExitUsage;
    case grpc::StatusCode::NOT_FOUND:
      return kExitNotFound;
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::ABORTED:
      return kExitWrongState;
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return kExitUnavailable;
    case grpc::StatusCode::ALREADY_EXISTS:
      return kExitExists;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return kExitNoRoom;
    default:
      return kExitError;
  }
}

std::string VmCommand(const char* verb, const CommandContext& context) {
  const bool named = !context.args.positional().empty();
  return absl::StrCat("drover vm ", verb, " ", named ? context.id() : "ID");
}

// What the person can do about it.
std::string Hint(const RpcError& error, const CommandContext& context) {
  switch (error.code) {
    case grpc::StatusCode::NOT_FOUND:
      return "`drover vm list` shows the VMs of this host";
    case grpc::StatusCode::ALREADY_EXISTS:
      return absl::StrCat("choose another id, or see `", VmCommand("get", context), "`");
    case grpc::StatusCode::FAILED_PRECONDITION:
      return absl::StrCat("`", VmCommand("get", context), "` shows its state");
    case grpc::StatusCode::ABORTED:
      return absl::StrCat("`", VmCommand("get", context), " -o json` shows its etag of now");
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return "`drover host` shows what the host has and what is promised";
    case grpc::StatusCode::UNAVAILABLE:
      return "wait a moment and repeat the command";
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return absl::StrCat("the call may still take effect; see `", VmCommand("get", context), "`");
    default:
      return "";
  }
}

bool Colored(const CommandContext& context) {
  const char* no_color = getenv("NO_COLOR");
  return context.io.err_is_tty && !context.args.Has("no-color") &&
         (no_color == nullptr || *no_color == '\0');
}

// Text from elsewhere, harmless to a terminal: control characters (U+0000 to U+001F, U+007F to
// U+009F) are shown as \xNN.
std::string Printable(const std::string& text) {
  const std::string clean = CleanUtf8(text, kMaxCellBytes);
  std::string out;
  for (size_t i = 0; i < clean.size(); ++i) {
    const auto c = static_cast<unsigned char>(clean[i]);
    const bool c1 = c == 0xc2 && static_cast<unsigned char>(clean[i + 1]) < 0xa0;
    if (c >= 0x20 && c != 0x7f && !c1)
      out.push_back(clean[i]);
    else
      absl::StrAppend(&out, "\\x",
                      absl::Hex(c1 ? static_cast<unsigned char>(clean[++i]) : c, absl::kZeroPad2));
  }
  return out;
}

// A message that names fields says of each what the list below it says.
std::string Headline(const RpcError& error) {
  if (error.violations.empty()) return Printable(error.message);
  return error.violations.size() == 1 ? "the agent refuses one field of the request"
                                      : absl::StrCat("the agent refuses ", error.violations.size(),
                                                     " fields of the request");
}

std::string Time(const google::protobuf::Timestamp& time) {
  return google::protobuf::util::TimeUtil::ToString(time);
}

std::string Labels(const v1::Vm& vm) {
  std::vector<std::string> pairs;
  for (const auto& [key, value] : vm.labels()) pairs.push_back(absl::StrCat(key, "=", value));
  std::sort(pairs.begin(), pairs.end());
  return absl::StrJoin(pairs, " ");
}

std::string YesNo(bool value) { return value ? "yes" : "no"; }

// Leaves out what is empty.
void PrintFields(const Rows& fields, std::ostream& out) {
  Rows rows;
  for (const auto& field : fields)
    if (!field[1].empty()) rows.push_back(field);
  PrintTable(rows, out);
}

void AddWorker(const v1::Worker& worker, Rows* fields) {
  fields->push_back({"worker pid:", absl::StrCat(worker.pid())});
  fields->push_back({"worker uid:", absl::StrCat(worker.uid())});
  fields->push_back({"worker cgroup:", worker.cgroup()});
  fields->push_back({"worker started:", Time(worker.start_time())});
  fields->push_back({"worker version:", worker.version()});
}

// "PAGE_SIZE_2M" without its prefix, as --memory-pages and the like have it; "none" at 0.
std::string ModeName(const std::string& name, const std::string& prefix) {
  const std::string rest = name.substr(std::min(name.size(), prefix.size()));
  if (rest.empty() || rest == "UNSPECIFIED") return "none";
  if (prefix == "PAGE_SIZE_") return rest;
  return absl::AsciiStrToLower(absl::StrReplaceAll(rest, {{"_", "-"}}));
}

void AddFeatures(const v1::Vm& vm, Rows* fields) {
  if (vm.has_resolved_features()) {
    const v1::ResolvedFeatures& got = vm.resolved_features();
    fields->push_back(
        {"memory pages:", ModeName(v1::PageSize_Name(got.page_size()), "PAGE_SIZE_")});
    fields->push_back(
        {"dirty log:", ModeName(v1::DirtyLogKind_Name(got.dirty_log_kind()), "DIRTY_LOG_KIND_")});
    fields->push_back(
        {"snapshots:", ModeName(v1::SnapshotMode_Name(got.snapshot_mode()), "SNAPSHOT_MODE_")});
    fields->push_back(
        {"migration:", ModeName(v1::MigrationMode_Name(got.migration_mode()), "MIGRATION_MODE_")});
  }
  for (const v1::Fallback& fallback : vm.fallbacks())
    fields->push_back({"fallback:", absl::StrCat(fallback.taken(), " instead of ",
                                                 fallback.wanted(), ": ", fallback.reason())});
}

}  // namespace

int ReportRpcError(const grpc::Status& status, const CommandContext& context) {
  if (status.ok()) return kExitOk;
  const RpcError error = DecodeRpcError(status);
  // The agent's own errors carry a reason; the transport's do not.
  std::optional<Unreachable> unreachable;
  if (error.code == grpc::StatusCode::UNAVAILABLE && error.reason.empty())
    unreachable = ExplainUnreachable(context.agent.address());
  std::ostream& err = context.io.err;
  const bool color = Colored(context);
  err << (color ? "\x1b[31m" : "") << "drover:" << (color ? "\x1b[0m" : "") << " "
      << (unreachable ? unreachable->what : Headline(error)) << " (" << CodeName(error.code)
      << (error.reason.empty() || error.reason == CodeName(error.code)
              ? ""
              : absl::StrCat(", ", Printable(error.reason)))
      << ")\n";
  for (const FieldViolation& violation : error.violations)
    err << "  " << Printable(violation.field) << ": " << Printable(violation.description) << "\n";
  if (unreachable) err << "  (the transport says: " << Printable(error.message) << ")\n";
  const std::string hint = unreachable ? unreachable->hint : Hint(error, context);
  if (!hint.empty()) err << "hint: " << hint << "\n";
  if (error.retry_delay.has_value())
    err << "hint: worth repeating after "
        << std::chrono::ceil<std::chrono::seconds>(*error.retry_delay).count() << " s\n";
  return ExitCodeFor(error.code);
}

int ReportUsageError(const absl::Status& status, const std::string& command, CliIo& io) {
  io.err << "drover: " << std::string(status.message()) << "\n"
         << "hint: `drover " << command << (command.empty() ? "" : " ")
         << "--help` shows what there is\n";
  return kExitUsage;
}

void PrintJson(const google::protobuf::Message& message, std::ostream& out) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  std::string json;
  // Fails only for an Any of unknown type, and the API has none.
  if (google::protobuf::util::MessageToJsonString(message, &json, options).ok()) out << json;
}

void PrintTable(const Rows& rows, std::ostream& out) {
  std::vector<size_t> widths;
  Rows cells = rows;
  for (auto& row : cells) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) {
      row[i] = Printable(row[i]);
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  for (const auto& row : cells) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i)
      absl::StrAppend(&line, row[i], std::string(widths[i] - row[i].size() + 2, ' '));
    absl::StripTrailingAsciiWhitespace(&line);
    out << line << "\n";
  }
}

std::string StateName(v1::VmState state) {
  std::string name = v1::VmState_Name(state);
  if (name.empty()) return absl::StrCat("state ", static_cast<int>(state));
  return absl::AsciiStrToLower(name.substr(std::string("VM_STATE_").size()));
}

void PrintVm(const v1::Vm& vm, std::ostream& out) {
  const v1::BootSource& boot = vm.spec().boot();
  Rows fields = {{"id:", vm.id()},
                 {"uid:", vm.uid()},
                 {"state:", StateName(vm.state())},
                 {"reason:", vm.state_reason()},
                 {"message:", vm.state_message()},
                 {"since:", vm.has_state_change_time() ? Time(vm.state_change_time()) : ""},
                 {"created:", vm.has_create_time() ? Time(vm.create_time()) : ""},
                 {"boots:", absl::StrCat(vm.boot_count())},
                 {"vcpus:", absl::StrCat(vm.spec().vcpus())},
                 {"memory:", absl::StrCat(vm.spec().memory_mib(), " MiB")},
                 {"kernel:", boot.kernel_path()},
                 {"initrd:", boot.initrd_path()},
                 {"cmdline:", boot.command_line()},
                 {"labels:", Labels(vm)},
                 {"etag:", vm.etag()}};
  AddFeatures(vm, &fields);
  if (vm.has_worker()) AddWorker(vm.worker(), &fields);
  PrintFields(fields, out);
}

void PrintVmList(const std::vector<v1::Vm>& vms, std::ostream& out) {
  Rows rows = {{"ID", "STATE", "VCPUS", "MEMORY", "BOOTS", "SINCE", "REASON"}};
  for (const v1::Vm& vm : vms)
    rows.push_back({vm.id(), StateName(vm.state()), absl::StrCat(vm.spec().vcpus()),
                    absl::StrCat(vm.spec().memory_mib(), "M"), absl::StrCat(vm.boot_count()),
                    vm.has_state_change_time() ? Time(vm.state_change_time()) : "",
                    vm.state_reason()});
  PrintTable(rows, out);
}

void PrintHost(const v1::Host& host, std::ostream& out) {
  const v1::Hypervisor& hypervisor = host.hypervisor();
  Rows fields = {
      {"hostname:", host.hostname()},
      {"kernel:", absl::StrCat(host.kernel_release(), " ", host.architecture())},
      {"agent:", absl::StrCat(host.agent_version(), ", since ", Time(host.agent_start_time()))},
      {"hypervisor:", hypervisor.kind().empty() ? absl::StrCat("none: ", hypervisor.unusable())
                                                : hypervisor.kind()},
      {"cgroups:", host.cgroup_version()},
      {"vms:", absl::StrCat(host.allocated().vms(), " of ", host.capacity().vms())},
      {"vcpus:",
       absl::StrCat(host.allocated().vcpus(), " promised, ", host.capacity().vcpus(), " CPUs")},
      {"memory:", absl::StrCat(host.allocated().memory_mib(), " of ", host.capacity().memory_mib(),
                               " MiB promised")},
      {"max vcpus a VM:", absl::StrCat(hypervisor.max_vcpus())},
      {"dirty page tracking:", YesNo(hypervisor.dirty_page_tracking())},
      {"post-copy restore:", YesNo(hypervisor.postcopy_restore())}};
  for (const std::string& name : hypervisor.withheld_capabilities())
    fields.push_back({"withheld:", name});
  for (const std::string& directory : host.image_directories())
    fields.push_back({"images:", directory});
  for (const std::string& warning : host.warnings()) fields.push_back({"warning:", warning});
  PrintFields(fields, out);
}

}  // namespace drover
