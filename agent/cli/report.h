#ifndef DROVER_AGENT_CLI_REPORT_H_
#define DROVER_AGENT_CLI_REPORT_H_

#include <google/protobuf/message.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "agent/cli/command.h"

namespace drover {

// Prints the error of a call to `io.err`: what happened, each bad field, the reason, a remedy. The
// exit code for it; 0 for OK.
int ReportRpcError(const grpc::Status& status, const CommandContext& context);

// Prints an error of the command line itself; kExitUsage.
int ReportUsageError(const absl::Status& status, const std::string& command, CliIo& io);

void PrintJson(const google::protobuf::Message& message, std::ostream& out);

// Columns as wide as their widest cell, two blanks between them; control characters escaped.
void PrintTable(const std::vector<std::vector<std::string>>& rows, std::ostream& out);

// One VM for a person: a line for each thing known of it.
void PrintVm(const v1::Vm& vm, std::ostream& out);
void PrintVmList(const std::vector<v1::Vm>& vms, std::ostream& out);
void PrintHost(const v1::Host& host, std::ostream& out);

// "running" for VM_STATE_RUNNING.
std::string StateName(v1::VmState state);

}  // namespace drover

#endif  // DROVER_AGENT_CLI_REPORT_H_
