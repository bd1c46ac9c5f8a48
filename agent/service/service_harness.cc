#include "agent/service/service_harness.h"

#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "vmm/base/status.h"

namespace drover {
namespace {

std::string MakeDirectory() {
  char path[] = "/tmp/drover-svc-XXXXXX";
  DROVER_CHECK(mkdtemp(path) != nullptr);
  return path;
}

HostInfo MakeHost() {
  return HostInfo({.hostname = "testhost",
                   .kernel_release = "6.1.0",
                   .architecture = "x86_64",
                   .cpus = 8,
                   .memory_mib = 16384},
                  {.capabilities = {{"kind", "kvm"}, {"max_vcpus", "254"}, {"irqfd", "true"}},
                   .cgroup_version = 2,
                   .warnings = {"no user namespaces"},
                   .image_directories = {"/images"}},
                  {.vcpus = 8, .memory_mib = 16384, .vms = 100}, "0.1.0", 1'700'000'000'000'000'000,
                  {"tsc_control"});
}

std::unique_ptr<ConsoleStreams> MakeConsoles(const BackendGate* gate,
                                             ConsoleStreamOptions options) {
  auto consoles = ConsoleStreams::Create(gate, options);
  DROVER_CHECK(consoles.ok());
  return *std::move(consoles);
}

}  // namespace

ServiceHarness::ServiceHarness(ConsoleStreamOptions consoles, RpcObserver* observer)
    : directory_(MakeDirectory()),
      host_(MakeHost()),
      consoles_(MakeConsoles(&gate_, consoles)),
      vm_service_(&gate_, consoles_.get()),
      host_service_(&gate_, &host_) {
  auto server =
      GrpcServer::Start({.unix_path = socket_path()}, {&vm_service_, &host_service_}, observer);
  DROVER_CHECK(server.ok());
  server_ = *std::move(server);
}

ServiceHarness::~ServiceHarness() {
  server_.reset();
  std::filesystem::remove_all(directory_);
}

std::shared_ptr<grpc::Channel> ServiceHarness::NewChannel() const {
  grpc::ChannelArguments arguments;  // as agent/cli has them
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  return grpc::CreateCustomChannel(address(), grpc::InsecureChannelCredentials(), arguments);
}

void ServiceHarness::Open() {
  gate_.Open(&backend_);
  server_->SetServing(true);
}

void ServiceHarness::AddVm(const std::string& id) {
  const CreateVmParams params{
      .id = id, .spec = {.vcpus = 2, .memory_mib = 128, .kernel_path = "/images/vmlinux"}};
  DROVER_CHECK(backend_.Create(params).ok());
}

void SetTestDeadline(grpc::ClientContext* context) {
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  context->set_wait_for_ready(true);
}

}  // namespace drover
