#ifndef DROVER_E2E_HARNESS_AGENT_PROCESS_H_
#define DROVER_E2E_HARNESS_AGENT_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/channel.h"

namespace drover {

// Where one agent lives: everything below one temporary directory that the object removes. Several
// agents may use it, one after the other.
class AgentHome {
 public:
  AgentHome();
  ~AgentHome();
  AgentHome(const AgentHome&) = delete;
  AgentHome& operator=(const AgentHome&) = delete;

  const std::string& root() const { return root_; }
  std::string state_dir() const { return root_ + "/state"; }
  std::string image_dir() const { return root_ + "/images"; }
  std::string socket() const { return root_ + "/run/agent.sock"; }
  std::string log() const { return root_ + "/agent.log"; }
  // Below each controller's root, or the cgroup root: this home's workers only.
  std::string cgroup_parent() const;
  // Copies a file into the image directory and returns its path there.
  std::string AddImage(const std::string& from, const std::string& name) const;
  // What remains of this home's workers: their directories under state/workers.
  std::vector<std::string> WorkerDirectories() const;
  // Cgroups of this home's workers that exist, under any controller.
  std::vector<std::string> Cgroups() const;

 private:
  std::string root_;
};

// A drover-agent process of the tree under test, with its helper. Ends it when destroyed; VMs live
// on, as they should.
class AgentProcess {
 public:
  // Starts an agent in `home` and waits until its health says SERVING, at most a minute. The error
  // holds its log.
  static absl::StatusOr<std::unique_ptr<AgentProcess>> Start(
      const AgentHome& home, std::vector<std::string> more_flags = {});
  ~AgentProcess();

  pid_t pid() const { return pid_; }
  std::shared_ptr<grpc::Channel> channel() const { return channel_; }

  // SIGKILL, then waits for its end (and its helper's).
  void Kill();
  // SIGTERM; the exit status.
  int Terminate();
  // Waits for its end by itself: the exit status, or -1 when a minute passes.
  int Wait();

 private:
  AgentProcess(pid_t pid, std::shared_ptr<grpc::Channel> channel)
      : pid_(pid), channel_(std::move(channel)) {}

  pid_t pid_;
  std::shared_ptr<grpc::Channel> channel_;
};

// The path of a file of the build, such as "agent/daemon/drover-agent": in Bazel's runfiles, or
// under $DROVER_ROOT.
std::string BuiltFile(const std::string& path);

// Why tests with real VMs cannot run here; empty when they can.
std::string WhyNoVms();

}  // namespace drover

#endif  // DROVER_E2E_HARNESS_AGENT_PROCESS_H_
