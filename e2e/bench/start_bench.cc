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
// So many of Drover's starts for one of each other: all meet the same host, loaded or not.
constexpr int kStartsPerBare = 2;
constexpr int kStartsPerPeer = 7;
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
double PeerSample(const std::vector<std::string>& words) {
  const auto peer = PeerProcess::Spawn(words);
  if (!peer.ok()) Die(std::string(peer.status().message()));
  const auto micros = (*peer)->MicrosToFirstByte();
  if (!micros.ok()) Die(absl::StrCat(words[0], ": ", micros.status().message()));
  return *micros / 1000;
}

// Milliseconds of the bare KVM program from its main() to the first byte, as it measures itself.
double BareSample(const std::string& guest) {
  FILE* out = popen(absl::StrCat(BuiltFile("e2e/guest/bare_kvm"), " --first-byte --memory ",
                                 kMemoryMib, " ", guest)
                        .c_str(),
                    "r");
  char line[64] = "";
  double micros = 0;
  if (out == nullptr || fgets(line, sizeof(line), out) == nullptr || pclose(out) != 0 ||
      !absl::SimpleAtod(line, &micros))
    Die("bare_kvm --first-byte gave no figure");
  return micros / 1000;
}

struct Samples {
  std::vector<double> drover, bare, qemu;
};

// One after the other, with pauses: closing a VM keeps the host busy for some 20 ms.
Samples Measure(Starter& starter, const std::string& guest, const std::vector<std::string>& qemu) {
  Samples samples;
  const auto take = [](std::vector<double>* out, double millis) {
    out->push_back(millis);
    absl::SleepFor(absl::Milliseconds(50));
  };
  for (int i = 0; i < kSamples; ++i) {
    take(&samples.drover, starter.Run(i));
    if (i % kStartsPerBare == 0) take(&samples.bare, BareSample(guest));
    if (i % kStartsPerPeer == 0 && !qemu.empty()) take(&samples.qemu, PeerSample(qemu));
  }
  return samples;
}

void PrintFigures(const Samples& samples) {
  Figure figure = {.name = "start/create_and_start_to_first_byte/p50",
                   .value = Quantile(samples.drover, 0.5),
                   .unit = "ms",
                   .baseline = Quantile(samples.bare, 0.5),
                   .baseline_name = "bare KVM program, main() to first byte",
                   .goal = 3 / 0.9,
                   .goal_is_ratio = true,
                   .samples = samples.drover};
  Print(figure);
  figure.name = "start/create_and_start_to_first_byte/p99";
  figure.value = Quantile(samples.drover, 0.99);
  figure.goal.reset();
  figure.goal_is_ratio = false;
  Print(figure);
  if (samples.qemu.empty()) {
    fprintf(stderr, "start_bench: no QEMU here; the row against it is left out\n");
    return;
  }
  Print({.name = "start/create_and_start_to_first_byte/against_qemu",
         .value = Quantile(samples.drover, 0.5),
         .unit = "ms",
         .baseline = Quantile(samples.qemu, 0.5),
         .baseline_name = "qemu-system-x86_64 -M microvm, spawn to first byte",
         .goal = 0.1,
         .goal_is_ratio = true,
         .samples = samples.drover});
}

void Run() {
  AgentHome home;
  const std::string guest = home.AddImage(BuiltFile("e2e/guest/guest.elf"), "guest");
  auto agent = AgentProcess::Start(home);
  if (!agent.ok()) Die(std::string(agent.status().message()));
  const auto vms = v1::VmService::NewStub((*agent)->channel());
  Starter starter(vms.get(), guest);
  for (int i = 0; i < 5; ++i) starter.Run(1000 + i);
  PrintFigures(Measure(starter, guest, QemuMicrovm(guest, kMemoryMib)));
}

}  // namespace
}  // namespace drover

int main() {
  drover::Run();
  return 0;
}
