#include <grpc/support/log.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <system_error>

#include "agent/daemon/daemon.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"
#include "vmm/base/version.h"

namespace drover {
namespace {

constexpr int kUsage = 2;

std::string ProgramDir() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "/" : program.parent_path().string();
}

std::string Variable(const std::string& name) {
  const char* value = getenv(name.c_str());
  return value == nullptr ? "" : value;
}

// gRPC's own messages, in the form of all others.
void LogGrpc(gpr_log_func_args* args) {
  const LogLevel level = args->severity == GPR_LOG_SEVERITY_ERROR  ? LogLevel::kWarning
                         : args->severity == GPR_LOG_SEVERITY_INFO ? LogLevel::kInfo
                                                                   : LogLevel::kDebug;
  Log(level, "gRPC", {{"text", args->message}, {"file", args->file}, {"line", args->line}});
}

int RunDaemon(DaemonOptions options) {
  SetLogComponent("agent");
  SetLogLevel(options.log_level);
  gpr_set_log_function(LogGrpc);
  const absl::Status status = Daemon(std::move(options)).Run();
  if (status.ok()) return EXIT_SUCCESS;
  Log(LogLevel::kError, "the agent ends",
      {{"error", std::string(status.message())}, {"reason", ReasonOf(status)}});
  return EXIT_FAILURE;
}

}  // namespace

int RunAgent(int argc, char** argv) {
  absl::StatusOr<DaemonOptions> options =
      ParseDaemonOptions({argv + 1, argv + argc}, Variable, ProgramDir());
  if (!options.ok()) {
    std::cerr << "drover-agent: " << std::string(options.status().message())
              << "\nhint: `drover-agent --help` shows what there is\n";
    return kUsage;
  }
  if (options->help) std::cout << DaemonHelp();
  if (options->version) std::cout << "drover-agent " << kVersion << "\n";
  if (options->help || options->version) return EXIT_SUCCESS;
  return RunDaemon(*std::move(options));
}

}  // namespace drover
