#include "agent/cli/vm_commands.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/cli/console_command.h"
#include "agent/cli/report.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;
using Stub = v1::VmService::Stub;

constexpr seconds kCallTimeout{60};
constexpr seconds kDefaultGrace{30};  // the agent's

const FlagSpec kEtag = {"etag", 0, "ETAG", "only when the VM has not changed since"};

void SetTimeout(grpc::ClientContext* context, nanoseconds timeout) {
  context->set_deadline(std::chrono::system_clock::now() + timeout);
}

// Shows what a change made of the VM.
int ShowVm(const v1::Vm& vm, const CommandContext& context) {
  if (context.json())
    PrintJson(vm, context.io.out);
  else
    PrintVmList({vm}, context.io.out);
  return kExitOk;
}

template <typename Request>
using VmMethod = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, v1::Vm*);

// Calls a method that answers with the VM.
template <typename Request>
int CallVm(const CommandContext& context, VmMethod<Request> method, Request request,
           nanoseconds timeout = kCallTimeout) {
  request.set_vm_id(context.id());
  request.set_etag(context.args.Get("etag"));
  grpc::ClientContext call;
  SetTimeout(&call, timeout);
  v1::Vm vm;
  const grpc::Status status = (context.agent.vms().*method)(&call, request, &vm);
  return status.ok() ? ShowVm(vm, context) : ReportRpcError(status, context);
}

absl::Status ReadSpec(const ParsedArgs& args, v1::VmSpec* spec) {
  int32_t vcpus = 0;
  if (!absl::SimpleAtoi(args.Get("vcpus", "1"), &vcpus))
    return absl::InvalidArgumentError(
        absl::StrCat("--vcpus is \"", args.Get("vcpus"), "\"; write a number"));
  ASSIGN_OR_RETURN(const int32_t memory_mib, ParseMemoryMib(args.Get("memory", "128M")));
  if (!args.Has("kernel")) return absl::InvalidArgumentError("--kernel FILE is required");
  spec->set_vcpus(vcpus);
  spec->set_memory_mib(memory_mib);
  spec->mutable_boot()->set_kernel_path(args.Get("kernel"));
  spec->mutable_boot()->set_initrd_path(args.Get("initrd"));
  spec->mutable_boot()->set_command_line(args.Get("cmdline"));
  return absl::OkStatus();
}

constexpr char kFeatureNames[] = "memory-pages dirty-log snapshots migration";

// A feature's two fields, from --NAME and from `--require NAME`.
template <typename Message, typename Value>
absl::Status ReadFeature(const ParsedArgs& args, const char* name,
                         const std::map<std::string, Value>& values,
                         void (Message::*set_value)(Value),
                         Message* (v1::VmSpec::*mutable_message)(), v1::VmSpec* spec) {
  const std::vector<std::string>& required = args.GetAll("require");
  const bool require = std::count(required.begin(), required.end(), name) != 0;
  if (!args.Has(name)) {
    if (!require) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("--require ", name, " needs --", name));
  }
  Message* const message = (spec->*mutable_message)();
  (message->*set_value)(values.at(args.Get(name)));
  message->set_required(require);
  return absl::OkStatus();
}

absl::Status ReadFeatures(const ParsedArgs& args, v1::VmSpec* spec) {
  RETURN_IF_ERROR((ReadFeature<v1::MemoryPages, v1::PageSize>(
      args, "memory-pages", {{"4K", v1::PAGE_SIZE_4K}, {"2M", v1::PAGE_SIZE_2M}},
      &v1::MemoryPages::set_size, &v1::VmSpec::mutable_memory_pages, spec)));
  RETURN_IF_ERROR((ReadFeature<v1::DirtyLog, v1::DirtyLogKind>(
      args, "dirty-log", {{"bitmap", v1::DIRTY_LOG_KIND_BITMAP}, {"ring", v1::DIRTY_LOG_KIND_RING}},
      &v1::DirtyLog::set_kind, &v1::VmSpec::mutable_dirty_log, spec)));
  RETURN_IF_ERROR((ReadFeature<v1::Snapshots, v1::SnapshotMode>(
      args, "snapshots", {{"paused", v1::SNAPSHOT_MODE_PAUSED}, {"live", v1::SNAPSHOT_MODE_LIVE}},
      &v1::Snapshots::set_mode, &v1::VmSpec::mutable_snapshots, spec)));
  return ReadFeature<v1::Migration, v1::MigrationMode>(
      args, "migration",
      {{"pre-copy", v1::MIGRATION_MODE_PRE_COPY}, {"post-copy", v1::MIGRATION_MODE_POST_COPY}},
      &v1::Migration::set_mode, &v1::VmSpec::mutable_migration, spec);
}

absl::Status ReadLabels(const ParsedArgs& args, v1::Vm* vm) {
  for (const std::string& label : args.GetAll("label")) {
    const size_t equals = label.find('=');
    if (equals == 0 || equals == std::string::npos)
      return absl::InvalidArgumentError(
          absl::StrCat("--label is \"", label, "\"; write KEY=VALUE"));
    (*vm->mutable_labels())[label.substr(0, equals)] = label.substr(equals + 1);
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::CreateVmRequest> ReadCreate(const CommandContext& context) {
  v1::CreateVmRequest request;
  request.set_vm_id(context.id());
  request.set_request_id(context.args.Get("request-id"));
  request.set_validate_only(context.args.Has("dry-run"));
  RETURN_IF_ERROR(ReadSpec(context.args, request.mutable_vm()->mutable_spec()));
  RETURN_IF_ERROR(ReadFeatures(context.args, request.mutable_vm()->mutable_spec()));
  RETURN_IF_ERROR(ReadLabels(context.args, request.mutable_vm()));
  return request;
}

int Create(const CommandContext& context) {
  const absl::StatusOr<v1::CreateVmRequest> request = ReadCreate(context);
  if (!request.ok()) return ReportUsageError(request.status(), "vm create", context.io);
  grpc::ClientContext call;
  SetTimeout(&call, kCallTimeout);
  v1::Vm vm;
  const grpc::Status status = context.agent.vms().CreateVm(&call, *request, &vm);
  if (!status.ok()) return ReportRpcError(status, context);
  if (request->validate_only()) context.io.err << "valid; nothing was made\n";
  if (request->validate_only() || !context.args.Has("start")) return ShowVm(vm, context);
  const int code = CallVm<v1::StartVmRequest>(context, &Stub::StartVm, {});
  if (code != kExitOk)
    context.io.err << "hint: VM " << context.id()
                   << " is made but not started; mend the cause and `drover vm start "
                   << context.id() << "`, or delete it\n";
  return code;
}

int Get(const CommandContext& context) {
  grpc::ClientContext call;
  SetTimeout(&call, kCallTimeout);
  v1::GetVmRequest request;
  request.set_vm_id(context.id());
  v1::Vm vm;
  const grpc::Status status = context.agent.vms().GetVm(&call, request, &vm);
  if (!status.ok()) return ReportRpcError(status, context);
  if (context.json())
    PrintJson(vm, context.io.out);
  else
    PrintVm(vm, context.io.out);
  return kExitOk;
}

// Every page as one.
grpc::Status ListAll(const CommandContext& context, v1::ListVmsResponse* all) {
  v1::ListVmsRequest request;
  request.set_page_size(1000);
  do {
    grpc::ClientContext call;
    SetTimeout(&call, kCallTimeout);
    v1::ListVmsResponse page;
    const grpc::Status status = context.agent.vms().ListVms(&call, request, &page);
    if (!status.ok()) return status;
    all->MergeFrom(page);
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  all->clear_next_page_token();
  return grpc::Status::OK;
}

int List(const CommandContext& context) {
  v1::ListVmsResponse all;
  const grpc::Status status = ListAll(context, &all);
  if (!status.ok()) return ReportRpcError(status, context);
  if (context.json()) {
    PrintJson(all, context.io.out);
  } else if (context.args.Get("output") == "id") {
    for (const v1::Vm& vm : all.vms()) context.io.out << vm.id() << "\n";
  } else {
    PrintVmList({all.vms().begin(), all.vms().end()}, context.io.out);
  }
  return kExitOk;
}

int Start(const CommandContext& context) {
  return CallVm<v1::StartVmRequest>(context, &Stub::StartVm, {});
}

int Stop(const CommandContext& context) {
  v1::StopVmRequest request;
  request.set_force(context.args.Has("force"));
  nanoseconds grace = kDefaultGrace;
  if (context.args.Has("grace")) {
    const absl::StatusOr<int64_t> nanos = ParseDurationNanos(context.args.Get("grace"));
    if (!nanos.ok()) return ReportUsageError(nanos.status(), "vm stop", context.io);
    grace = nanoseconds(*nanos);
    request.mutable_grace()->set_seconds(*nanos / 1'000'000'000);
    request.mutable_grace()->set_nanos(static_cast<int32_t>(*nanos % 1'000'000'000));
  }
  // What is longer than a day, the agent refuses anyway.
  return CallVm(context, &Stub::StopVm, request,
                std::min<nanoseconds>(grace, std::chrono::hours(24)) + kCallTimeout);
}

int Pause(const CommandContext& context) {
  return CallVm<v1::PauseVmRequest>(context, &Stub::PauseVm, {});
}

int Resume(const CommandContext& context) {
  return CallVm<v1::ResumeVmRequest>(context, &Stub::ResumeVm, {});
}

int Reboot(const CommandContext& context) {
  return CallVm<v1::RebootVmRequest>(context, &Stub::RebootVm, {});
}

// Asks the person at the terminal; yes where there is none.
bool Confirmed(const CommandContext& context) {
  if (context.args.Has("force") || !context.io.in_is_tty) return true;
  context.io.err << "Delete VM " << context.id() << "? [y/N] " << std::flush;
  char answer = 'n';
  return read(context.io.in_fd, &answer, 1) == 1 && (answer == 'y' || answer == 'Y');
}

int Delete(const CommandContext& context) {
  if (!Confirmed(context)) {
    context.io.err << "nothing was deleted\n";
    return kExitError;
  }
  v1::DeleteVmRequest request;
  request.set_vm_id(context.id());
  request.set_etag(context.args.Get("etag"));
  request.set_force(context.args.Has("force"));
  request.set_allow_missing(context.args.Has("allow-missing"));
  grpc::ClientContext call;
  SetTimeout(&call, kCallTimeout);
  google::protobuf::Empty empty;
  const grpc::Status status = context.agent.vms().DeleteVm(&call, request, &empty);
  if (!status.ok()) return ReportRpcError(status, context);
  if (!context.json()) context.io.out << "deleted " << context.id() << "\n";
  return kExitOk;
}

CommandSpec CreateSpec() {
  return {
      "vm create",
      "ID",
      "Records a VM; its process is made when it starts",
      {"drover vm create web-1 --kernel /var/lib/drover/images/vmlinuz --initrd "
       "/var/lib/drover/images/initrd.img --cmdline console=ttyS0 --memory 512M --start",
       "drover vm create big --kernel /var/lib/drover/images/vmlinuz --vcpus 8 --memory 16G "
       "--label team=db --dry-run",
       "drover vm create fast --kernel /var/lib/drover/images/vmlinuz --memory 4G "
       "--memory-pages 2M --require memory-pages --migration post-copy"},
      {{"kernel", 0, "FILE", "what to boot: a bzImage, a vmlinux or any PVH ELF"},
       {"initrd", 0, "FILE", "its initial ramdisk"},
       {"cmdline", 0, "TEXT", "its command line"},
       {"vcpus", 0, "N", "virtual CPUs (1)"},
       {"memory", 0, "SIZE", "guest memory: MiB, or 512M, 1G (128M)"},
       {"memory-pages", 0, "SIZE", "the host's pages behind guest memory (4K)", "4K 2M"},
       {"dirty-log", 0, "KIND", "how writes are noted (what costs least)", "bitmap ring"},
       {"snapshots", 0, "MODE", "whether the guest waits for them (live where the host can)",
        "paused live"},
       {"migration", 0, "MODE", "how it moves to another host (pre-copy)", "pre-copy post-copy"},
       {"require", 0, "OPTION",
        "refuse the VM where the host cannot do this, without a fallback; may be repeated",
        kFeatureNames},
       {"label", 0, "KEY=VALUE", "a label; may be repeated"},
       {"start", 0, "", "start it too"},
       {"dry-run", 0, "", "check everything, make nothing"},
       {"request-id", 0, "UUID", "the same one again gives the same VM"}},
      Create};
}

CommandSpec Change(const char* verb, const char* summary, int (*run)(const CommandContext&)) {
  return {absl::StrCat("vm ", verb),
          "ID",
          summary,
          {absl::StrCat("drover vm ", verb, " web-1")},
          {kEtag},
          run};
}

}  // namespace

std::vector<CommandSpec> VmCommands() {
  CommandSpec stop =
      Change("stop", "Presses the guest's power button, and ends it after a while", Stop);
  stop.examples.push_back("drover vm stop web-1 --grace 2m");
  stop.flags.push_back({"grace", 0, "TIME", "how long the guest may take (30s; at most 1h)"});
  stop.flags.push_back({"force", 0, "", "end it at once"});
  CommandSpec remove = Change("delete", "Removes a VM that is at rest", Delete);
  remove.flags.push_back({"force", 0, "", "do not ask, and end the VM if it runs"});
  remove.flags.push_back({"allow-missing", 0, "", "no error when there is no such VM"});
  return {CreateSpec(),
          {"vm get",
           "ID",
           "Shows one VM",
           {"drover vm get web-1", "drover vm get web-1 -o json"},
           {},
           Get},
          {"vm list",
           "",
           "Lists the VMs of this host",
           {"drover vm list", "drover vm list -o json | jq -r '.vms[].id'"},
           {},
           List},
          Change("start", "Builds the machine in a fresh jail and runs it", Start),
          std::move(stop),
          Change("pause", "Stops every virtual CPU", Pause),
          Change("resume", "Lets a paused VM run on", Resume),
          Change("reboot", "Resets the machine and boots it again", Reboot),
          std::move(remove),
          {"vm console",
           "ID",
           "Joins the serial console; Ctrl-] or ~. on a new line leaves it",
           {"drover vm console web-1", "drover vm console web-1 </dev/null | tee boot.log"},
           {{"escape", 0, "none", "no key leaves: everything goes to the guest", "none"}},
           RunConsoleCommand}};
}

}  // namespace drover
