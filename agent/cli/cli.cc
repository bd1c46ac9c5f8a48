#include "agent/cli/cli.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "agent/cli/completion.h"
#include "agent/cli/help.h"
#include "agent/cli/report.h"
#include "agent/cli/vm_commands.h"
#include "vmm/base/status.h"
#include "vmm/base/version.h"

namespace drover {
namespace {

constexpr char kDefaultAddress[] = "unix:/run/drover/agent.sock";

int RunHost(const CommandContext& context) {
  grpc::ClientContext call;
  call.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  v1::Host host;
  const grpc::Status status = context.agent.host().GetHost(&call, {}, &host);
  if (!status.ok()) return ReportRpcError(status, context);
  if (context.json())
    PrintJson(host, context.io.out);
  else
    PrintHost(host, context.io.out);
  return kExitOk;
}

int RunCompletion(const CommandContext& context) {
  const absl::StatusOr<std::string> script = CompletionScript(context.id());
  if (!script.ok()) return ReportUsageError(script.status(), "completion", context.io);
  context.io.out << *script;
  return kExitOk;
}

std::vector<CommandSpec> MakeCommands() {
  std::vector<CommandSpec> commands = {
      {"host",
       "",
       "Shows the host: what it can do, what it has, what is promised",
       {"drover host", "drover host -o json"},
       {},
       RunHost}};
  for (CommandSpec& command : VmCommands()) commands.push_back(std::move(command));
  commands.push_back({"completion",
                      "SHELL",
                      "Prints the completion script for bash, zsh or fish",
                      {"source <(drover completion bash)"},
                      {},
                      RunCompletion});
  return commands;
}

// The address to call: a bare path is a unix socket's.
std::string Address(const ParsedArgs& args) {
  const char* variable = getenv("DROVER_ADDRESS");
  const std::string fallback =
      variable != nullptr && *variable != '\0' ? variable : kDefaultAddress;
  const std::string address = args.Get("address", fallback);
  return address[0] == '/' ? "unix:" + address : address;
}

// Options before the command's words go behind them, so that both places are alike.
std::vector<std::string> WordsFirst(const std::vector<std::string>& args) {
  std::vector<std::string> leading, rest;
  size_t i = 0;
  for (; i < args.size() && args[i].size() > 1 && args[i][0] == '-'; ++i) {
    leading.push_back(args[i]);
    const bool takes_value = args[i] == "--address" || args[i] == "--output" || args[i] == "-o";
    if (takes_value && i + 1 < args.size()) leading.push_back(args[++i]);
  }
  for (; i < args.size() && rest.size() < 2 && args[i][0] != '-'; ++i) rest.push_back(args[i]);
  rest.insert(rest.end(), leading.begin(), leading.end());
  rest.insert(rest.end(), args.begin() + i, args.end());
  return rest;
}

size_t WordCount(const CommandSpec& command) {
  return command.words.find(' ') == std::string::npos ? 1 : 2;
}

// The command that `args` begin with; null where there is none.
const CommandSpec* FindCommand(const std::vector<std::string>& args) {
  for (const CommandSpec& command : Commands()) {
    const size_t count = WordCount(command);
    if (args.size() < count) continue;
    if (absl::StrJoin(args.begin(), args.begin() + count, " ") == command.words) return &command;
  }
  return nullptr;
}

int ReportUnknownCommand(const std::vector<std::string>& args, CliIo& io) {
  const bool vm = args[0] == "vm" && args.size() > 1 && args[1][0] != '-';
  const std::string word = vm ? "vm " + args[1] : args[0];
  std::vector<std::string> known;
  for (const CommandSpec& command : Commands()) {
    known.push_back(command.words);
    if (command.words.rfind("vm ", 0) == 0 && !vm) known.push_back(command.words.substr(3));
  }
  std::string near = Nearest(word, known);
  for (const CommandSpec& command : Commands())
    if (command.words == "vm " + near) near = command.words;
  return ReportUsageError(
      absl::InvalidArgumentError(
          absl::StrCat("there is no command \"", word, "\"",
                       near.empty() ? "" : absl::StrCat("; did you mean `drover ", near, "`?"))),
      vm ? "vm" : "", io);
}

absl::Status CheckArguments(const CommandSpec& command, const ParsedArgs& args) {
  const size_t wanted = command.arguments.empty() ? 0 : 1;
  const auto& given = args.positional();
  if (given.size() < wanted)
    return absl::InvalidArgumentError(
        absl::StrCat("`drover ", command.words, "` needs ", command.arguments));
  if (given.size() > wanted)
    return absl::InvalidArgumentError(
        absl::StrCat("`drover ", command.words, "` has no use for \"", given[wanted], "\""));
  if (args.Get("output") == "id" && command.words != "vm list")
    return absl::InvalidArgumentError("-o id is for `drover vm list` only");
  return absl::OkStatus();
}

int RunCommand(const CommandSpec& command, const std::vector<std::string>& args, CliIo& io) {
  std::vector<FlagSpec> flags = command.flags;
  flags.insert(flags.end(), GlobalFlags().begin(), GlobalFlags().end());
  const absl::StatusOr<ParsedArgs> parsed = ParseArgs(args, flags);
  if (!parsed.ok()) return ReportUsageError(parsed.status(), command.words, io);
  if (parsed->Has("help")) {
    PrintCommandHelp(command, io.out);
    return kExitOk;
  }
  const absl::Status checked = CheckArguments(command, *parsed);
  if (!checked.ok()) return ReportUsageError(checked, command.words, io);
  const AgentConnection agent(Address(*parsed));
  return command.run({*parsed, io, agent});
}

// What needs no command: help and version. nullopt for the rest.
std::optional<int> RunWithoutCommand(const std::vector<std::string>& args, CliIo& io) {
  const bool bare_vm = !args.empty() && args[0] == "vm" && (args.size() == 1 || args[1][0] == '-');
  if (args.empty()) {
    PrintHelp(io.err);
    return kExitUsage;
  }
  if (args[0] == "--version" || args[0] == "version") {
    io.out << "drover " << kVersion << "\n";
    return kExitOk;
  }
  if (args[0] == "--help" || args[0] == "-h" || args[0] == "help" || bare_vm) {
    PrintHelp(io.out);
    return kExitOk;
  }
  return std::nullopt;
}

}  // namespace

AgentConnection::AgentConnection(const std::string& address) : address_(address) {
  // gRPC 1.51's bandwidth probe can stall a stream that is busy both ways for 10 s.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  const auto channel =
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  vms_ = v1::VmService::NewStub(channel);
  host_ = v1::HostService::NewStub(channel);
}

const std::vector<CommandSpec>& Commands() {
  static const auto& commands = *new std::vector<CommandSpec>(MakeCommands());
  return commands;
}

const std::vector<FlagSpec>& GlobalFlags() {
  static const auto& flags = *new std::vector<FlagSpec>{
      {"address", 0, "ADDRESS",
       "the agent's: unix:PATH or HOST:PORT ($DROVER_ADDRESS, unix:/run/drover/agent.sock)"},
      {"output", 'o', "FORMAT", "table, json or, for vm list, id (table)", "table json id"},
      {"no-color", 0, "", "no colors ($NO_COLOR)"},
      {"help", 'h', "", "this help"}};
  return flags;
}

int RunCli(const std::vector<std::string>& args, CliIo io) {
  const std::vector<std::string> words = WordsFirst(args);
  const CommandSpec* command = FindCommand(words);
  if (command != nullptr) {
    const size_t count = WordCount(*command);
    return RunCommand(*command, {words.begin() + static_cast<ptrdiff_t>(count), words.end()}, io);
  }
  const std::optional<int> code = RunWithoutCommand(words, io);
  return code.has_value() ? *code : ReportUnknownCommand(words, io);
}

int CliMain(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  const int code = RunCli({argv + 1, argv + argc}, {.out = std::cout,
                                                    .err = std::cerr,
                                                    .in_fd = STDIN_FILENO,
                                                    .out_fd = STDOUT_FILENO,
                                                    .in_is_tty = isatty(STDIN_FILENO) == 1,
                                                    .err_is_tty = isatty(STDERR_FILENO) == 1});
  std::cout.flush();
  return code;
}

}  // namespace drover
