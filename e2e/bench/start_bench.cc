// How long CreateVm + StartVm over gRPC take, jailed, to the test guest's first byte on its
// console.
#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "e2e/bench/figure.h"
#include "e2e/bench/peers.h"
#include "e2e/harness/agent_process.h"
#include "proto/drover/v1/vm.grpc.pb.h"

namespace drover {
namespace {

constexpr int kSamples = 100;
constexpr int kPeerSamples = 15;
constexpr int kMemoryMib = 128;

[[noreturn]] void Die(const std::string& why) {
  fprintf(stderr, "start_bench: %s\n", why.c_str());
  exit(1);
}

void Must(const grpc::Status& status) {
  if (!status.ok()) Die(status.error_message());
}

class Starter {
 public:
  Starter(v1::VmService::Stub* vms, std::string kernel) : vms_(vms), kernel_(std::move(kernel)) {}

  // Milliseconds from before CreateVm to the console's first byte.
  double Run(int n) {
    const std::string id = absl::StrCat("bench", n);
    const int64_t begin = NowMicros();
    Create(id);
    Start(id);
    const double millis = static_cast<double>(FirstByte(id) - begin) / 1000;
    Delete(id);
    return millis;
  }

 private:
  void Create(const std::string& id) {
    grpc::ClientContext context;
    v1::CreateVmRequest request;
    v1::Vm vm;
    request.set_vm_id(id);
    v1::VmSpec* spec = request.mutable_vm()->mutable_spec();
    spec->set_vcpus(1);
    spec->set_memory_mib(kMemoryMib);
    spec->mutable_boot()->set_kernel_path(kernel_);
    Must(vms_->CreateVm(&context, request, &vm));
  }

  void Start(const std::string& id) {
    grpc::ClientContext context;
    v1::StartVmRequest request;
    v1::Vm vm;
    request.set_vm_id(id);
    Must(vms_->StartVm(&context, request, &vm));
  }

  int64_t FirstByte(const std::string& id) {
    grpc::ClientContext context;
    auto stream = vms_->StreamConsole(&context);
    v1::StreamConsoleRequest request;
    request.set_vm_id(id);
    stream->Write(request);
    v1::StreamConsoleResponse response;
    while (stream->Read(&response)) {
      if (response.output().empty()) continue;
      const int64_t now = NowMicros();
      context.TryCancel();
      return now;
    }
    Die(absl::StrCat(id, ": the console ended: ", stream->Finish().error_message()));
  }

  void Delete(const std::string& id) {
    grpc::ClientContext context;
    v1::DeleteVmRequest request;
    google::protobuf::Empty nothing;
    request.set_vm_id(id);
    request.set_force(true);
    Must(vms_->DeleteVm(&context, request, &nothing));
  }

  v1::VmService::Stub* const vms_;
  const std::string kernel_;
};

// Milliseconds of the spawn of a peer to the guest's first byte.
std::vector<double> PeerSamples(const std::vector<std::string>& words) {
  std::vector<double> millis;
  for (int i = 0; i < kPeerSamples; ++i) {
    const auto peer = PeerProcess::Spawn(words);
    if (!peer.ok()) Die(std::string(peer.status().message()));
    const auto micros = (*peer)->MicrosToFirstByte();
    if (!micros.ok()) Die(absl::StrCat(words[0], ": ", micros.status().message()));
    millis.push_back(*micros / 1000);
  }
  return millis;
}

// Milliseconds of the bare KVM program from its main() to the first byte, as it measures itself.
std::vector<double> BareSamples(const std::string& guest) {
  std::vector<double> millis;
  for (int i = 0; i < kPeerSamples; ++i) {
    FILE* out = popen(absl::StrCat(BuiltFile("e2e/guest/bare_kvm"), " --first-byte --memory ",
                                   kMemoryMib, " ", guest)
                          .c_str(),
                      "r");
    char line[64] = "";
    double micros = 0;
    if (out == nullptr || fgets(line, sizeof(line), out) == nullptr || pclose(out) != 0 ||
        !absl::SimpleAtod(line, &micros))
      Die("bare_kvm --first-byte gave no figure");
    millis.push_back(micros / 1000);
  }
  return millis;
}

void Run() {
  AgentHome home;
  const std::string guest = home.AddImage(BuiltFile("e2e/guest/guest.elf"), "guest");
  auto agent = AgentProcess::Start(home);
  if (!agent.ok()) Die(std::string(agent.status().message()));
  const auto vms = v1::VmService::NewStub((*agent)->channel());
  Starter starter(vms.get(), guest);
  for (int i = 0; i < 5; ++i) starter.Run(1000 + i);
  std::vector<double> samples;
  for (int i = 0; i < kSamples; ++i) {
    samples.push_back(starter.Run(i));
    absl::SleepFor(absl::Milliseconds(50));  // closing a VM keeps the host busy for some 20 ms
  }
  const double bare = Quantile(BareSamples(guest), 0.5);
  Print({.name = "start/create_and_start_to_first_byte/p50",
         .value = Quantile(samples, 0.5),
         .unit = "ms",
         .baseline = bare,
         .baseline_name = "bare KVM program, main() to first byte",
         .goal = 3 / 0.9,
         .goal_is_ratio = true,
         .samples = samples});
  Print({.name = "start/create_and_start_to_first_byte/p99",
         .value = Quantile(samples, 0.99),
         .unit = "ms",
         .baseline = bare,
         .baseline_name = "bare KVM program, main() to first byte",
         .samples = samples});
  const std::vector<std::string> qemu = QemuMicrovm(guest, kMemoryMib);
  if (qemu.empty()) {
    fprintf(stderr, "start_bench: no QEMU here; the row against it is left out\n");
    return;
  }
  Print({.name = "start/create_and_start_to_first_byte/against_qemu",
         .value = Quantile(samples, 0.5),
         .unit = "ms",
         .baseline = Quantile(PeerSamples(qemu), 0.5),
         .baseline_name = "qemu-system-x86_64 -M microvm, spawn to first byte",
         .goal = 0.1,
         .goal_is_ratio = true,
         .samples = samples});
}

}  // namespace
}  // namespace drover

int main() {
  drover::Run();
  return 0;
}
