#ifndef DROVER_E2E_HARNESS_VM_FIXTURE_H_
#define DROVER_E2E_HARNESS_VM_FIXTURE_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "e2e/harness/agent_process.h"
#include "e2e/harness/console_client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/drover/v1/host.grpc.pb.h"
#include "proto/drover/v1/vm.grpc.pb.h"
#include "proto/google/rpc/error_details.pb.h"

namespace drover {

// A test with an agent, its API, and the test guest as an image. Skips loudly where VMs cannot run.
// When a test has failed, the agent's log is printed.
class VmFixture : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  void StartAgent(std::vector<std::string> more_flags = {});
  void KillAgent();

  // Requests with the test guest as kernel.
  v1::CreateVmRequest GuestRequest(const std::string& id, const std::string& command_line = "",
                                   int vcpus = 1, int memory_mib = 64);
  // Calls that must succeed.
  v1::Vm Create(const v1::CreateVmRequest& request);
  v1::Vm CreateGuest(const std::string& id, const std::string& command_line = "", int vcpus = 1,
                     int memory_mib = 64);
  v1::Vm StartVm(const std::string& id);
  v1::Vm Get(const std::string& id);
  void ForceDelete(const std::string& id);

  // Waits, at most a minute, until the VM is in `state`, and returns it.
  v1::Vm WaitFor(const std::string& id, v1::VmState state);

  // A console of the VM.
  std::unique_ptr<ConsoleClient> Console(const std::string& id);

  AgentHome home_;
  std::unique_ptr<AgentProcess> agent_;
  std::unique_ptr<v1::VmService::Stub> vms_;
  std::unique_ptr<v1::HostService::Stub> host_;
  std::string guest_;  // the test guest's path among the images
};

// The ErrorInfo.reason and the violated fields of an error.
std::string Reason(const grpc::Status& status);
std::vector<std::string> Fields(const grpc::Status& status);

// Waits, at most a minute, until `done` says true; says what was waited for when it does not.
bool Eventually(const std::function<bool()>& done);

}  // namespace drover

#endif  // DROVER_E2E_HARNESS_VM_FIXTURE_H_
