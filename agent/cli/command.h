#ifndef DROVER_AGENT_CLI_COMMAND_H_
#define DROVER_AGENT_CLI_COMMAND_H_

#include <grpcpp/grpcpp.h>

#include <ostream>
#include <string>
#include <vector>

#include "agent/cli/args.h"
#include "proto/drover/v1/host.grpc.pb.h"
#include "proto/drover/v1/vm.grpc.pb.h"

namespace drover {

// What drover exits with.
enum ExitCode : int {
  kExitOk = 0,
  kExitError = 1,
  kExitUsage = 2,        // the command line, or a value that the agent refuses
  kExitNotFound = 3,     // no such VM
  kExitWrongState = 4,   // the VM is not in a state for this, or has changed since
  kExitUnavailable = 5,  // the agent does not answer, or not in time
  kExitExists = 6,       // the id is taken
  kExitNoRoom = 7,       // the host is full
};

// Where a command reads and writes; a test brings its own.
struct CliIo {
  std::ostream& out;
  std::ostream& err;
  int in_fd = 0;   // borrowed
  int out_fd = 1;  // borrowed; only the console writes to it, all others to `out`
  bool in_is_tty = false;
  bool err_is_tty = false;
};

// The agent's services at one address. Thread-safe.
class AgentConnection {
 public:
  explicit AgentConnection(const std::string& address);
  v1::VmService::Stub& vms() const { return *vms_; }
  v1::HostService::Stub& host() const { return *host_; }
  const std::string& address() const { return address_; }

 private:
  const std::string address_;
  std::unique_ptr<v1::VmService::Stub> vms_;
  std::unique_ptr<v1::HostService::Stub> host_;
};

// One run of one command.
struct CommandContext {
  const ParsedArgs& args;
  CliIo& io;
  const AgentConnection& agent;

  const std::string& id() const { return args.positional()[0]; }
  bool json() const { return args.Get("output") == "json"; }
};

// A command: what it is called, what it takes, what it does.
struct CommandSpec {
  std::string words;      // "vm create"
  std::string arguments;  // "ID"; "" for none
  std::string summary;    // one line
  std::vector<std::string> examples;
  std::vector<FlagSpec> flags;  // besides the global ones
  int (*run)(const CommandContext& context) = nullptr;
};

// Every command, in the order of the help.
const std::vector<CommandSpec>& Commands();
// The options that every command takes.
const std::vector<FlagSpec>& GlobalFlags();

}  // namespace drover

#endif  // DROVER_AGENT_CLI_COMMAND_H_
