// What an idle jailed worker costs the host beyond its guest's memory.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "e2e/bench/figure.h"
#include "e2e/bench/peers.h"
#include "e2e/harness/agent_process.h"
#include "proto/drover/v1/vm.grpc.pb.h"

namespace drover {
namespace {

constexpr int kMemoryMib = 128;

[[noreturn]] void Die(const std::string& why) {
  fprintf(stderr, "idle_worker_bench: %s\n", why.c_str());
  exit(1);
}

// Starts a VM whose guest waits in HLT, and returns its worker's pid.
pid_t StartIdle(v1::VmService::Stub* vms, const std::string& kernel) {
  v1::CreateVmRequest create;
  create.set_vm_id("idle");
  v1::VmSpec* spec = create.mutable_vm()->mutable_spec();
  spec->set_vcpus(1);
  spec->set_memory_mib(kMemoryMib);
  spec->mutable_boot()->set_kernel_path(kernel);
  spec->mutable_boot()->set_command_line("do=idle,halt");
  v1::Vm vm;
  grpc::ClientContext context;
  if (const auto status = vms->CreateVm(&context, create, &vm); !status.ok())
    Die(status.error_message());
  v1::StartVmRequest start;
  start.set_vm_id("idle");
  grpc::ClientContext start_context;
  if (const auto status = vms->StartVm(&start_context, start, &vm); !status.ok())
    Die(status.error_message());
  absl::SleepFor(absl::Seconds(1));
  return vm.worker().pid();
}

Footprint QemuFootprint(const std::string& guest) {
  const std::vector<std::string> words = QemuMicrovm(guest, kMemoryMib);
  if (words.empty()) return {};
  const auto peer = PeerProcess::Spawn(words);
  if (!peer.ok() || !(*peer)->MicrosToFirstByte().ok()) Die("QEMU did not start");
  absl::SleepFor(absl::Seconds(1));
  const auto footprint = FootprintOf((*peer)->pid(), {"pc.ram"}, uint64_t{kMemoryMib} << 20);
  if (!footprint.ok()) Die(std::string(footprint.status().message()));
  return *footprint;
}

void Report(const char* name, double kib, double qemu_kib, std::optional<double> goal) {
  Figure figure{
      .name = name, .value = kib / 1024, .unit = "MiB", .goal = goal, .samples = {kib / 1024}};
  if (qemu_kib > 0) {
    figure.baseline = qemu_kib / 1024;
    figure.baseline_name = "qemu-system-x86_64 -M microvm";
  }
  Print(figure);
}

void Run() {
  AgentHome home;
  const std::string guest = home.AddImage(BuiltFile("e2e/guest/guest.elf"), "guest");
  auto agent = AgentProcess::Start(home);
  if (!agent.ok()) Die(std::string(agent.status().message()));
  const auto vms = v1::VmService::NewStub((*agent)->channel());
  const pid_t pid = StartIdle(vms.get(), guest);
  const auto footprint = FootprintOf(pid, {"memfd:guest-memory"}, uint64_t{kMemoryMib} << 20);
  if (!footprint.ok()) Die(std::string(footprint.status().message()));
  const Footprint qemu = QemuFootprint(guest);
  Report("idle_worker/rss", footprint->rss_kib, qemu.rss_kib, 2.5);
  Report("idle_worker/private", footprint->private_kib, qemu.private_kib, std::nullopt);
  v1::DeleteVmRequest request;
  request.set_vm_id("idle");
  request.set_force(true);
  grpc::ClientContext context;
  google::protobuf::Empty nothing;
  vms->DeleteVm(&context, request, &nothing);
}

}  // namespace
}  // namespace drover

int main() {
  drover::Run();
  return 0;
}
