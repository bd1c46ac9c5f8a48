// How many VMs start in a second when a hundred are to start at once, as when a host that was
// drained fills again: from the first StartVm to the last guest's first byte on its console.
#include <semaphore.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "e2e/bench/figure.h"
#include "e2e/bench/peers.h"
#include "e2e/harness/agent_process.h"
#include "proto/drover/v1/vm.grpc.pb.h"

namespace drover {
namespace {

constexpr int kVms = 100;
constexpr int kRounds = 3;
constexpr int kMemoryMib = 128;
// Guests that spin would keep the processors from those to come.
constexpr char kCommand[] = "halt";
constexpr int kConsoles = 48;  // at a time; an agent serves 64
// Closing a VM keeps a processor busy for some 20 ms.
constexpr absl::Duration kRest = absl::Seconds(3);

[[noreturn]] void Die(const std::string& why) {
  fprintf(stderr, "start_many_bench: %s\n", why.c_str());
  exit(1);
}

void Must(const grpc::Status& status) {
  if (!status.ok()) Die(status.error_message());
}

std::string IdOf(int n) { return absl::StrCat("bench", n); }

void OnThreads(const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int n = 0; n < kVms; ++n) threads.emplace_back(body, n);
  for (std::thread& thread : threads) thread.join();
}

class Fleet {
 public:
  Fleet(v1::VmService::Stub* vms, std::string kernel) : vms_(vms), kernel_(std::move(kernel)) {
    sem_init(&consoles_, 0, kConsoles);
  }

  // Milliseconds from the first StartVm to the last VM's first byte.
  double Run() {
    for (int n = 0; n < kVms; ++n) Create(n);
    const int64_t begin = NowMicros();
    OnThreads([this](int n) {
      Start(n);
      AwaitFirstByte(n);
    });
    const double millis = static_cast<double>(NowMicros() - begin) / 1000;
    OnThreads([this](int n) { Delete(n); });
    return millis;
  }

 private:
  void Create(int n) {
    grpc::ClientContext context;
    v1::CreateVmRequest request;
    v1::Vm vm;
    request.set_vm_id(IdOf(n));
    v1::VmSpec* spec = request.mutable_vm()->mutable_spec();
    spec->set_vcpus(1);
    spec->set_memory_mib(kMemoryMib);
    spec->mutable_boot()->set_kernel_path(kernel_);
    spec->mutable_boot()->set_command_line(absl::StrCat("do=", kCommand));
    Must(vms_->CreateVm(&context, request, &vm));
  }

  void Start(int n) {
    grpc::ClientContext context;
    v1::StartVmRequest request;
    v1::Vm vm;
    request.set_vm_id(IdOf(n));
    Must(vms_->StartVm(&context, request, &vm));
  }

  void AwaitFirstByte(int n) {
    sem_wait(&consoles_);
    grpc::ClientContext context;
    auto stream = vms_->StreamConsole(&context);
    v1::StreamConsoleRequest request;
    request.set_vm_id(IdOf(n));
    stream->Write(request);
    v1::StreamConsoleResponse response;
    do {
      if (!stream->Read(&response)) Die(IdOf(n) + ": " + stream->Finish().error_message());
    } while (response.output().empty());
    context.TryCancel();
    stream->Finish();
    sem_post(&consoles_);
  }

  void Delete(int n) {
    grpc::ClientContext context;
    v1::DeleteVmRequest request;
    google::protobuf::Empty nothing;
    request.set_vm_id(IdOf(n));
    request.set_force(true);
    Must(vms_->DeleteVm(&context, request, &nothing));
  }

  v1::VmService::Stub* const vms_;
  const std::string kernel_;
  sem_t consoles_;
};

// Milliseconds from the first spawn of as many bare KVM programs to the last one's first byte.
double RunBare(const std::string& guest) {
  const std::vector<std::string> words = {BuiltFile("e2e/guest/bare_kvm"), "--memory",
                                          absl::StrCat(kMemoryMib), guest, kCommand};
  std::vector<std::unique_ptr<PeerProcess>> peers;
  const int64_t begin = NowMicros();
  for (int n = 0; n < kVms; ++n) {
    auto peer = PeerProcess::Spawn(words);
    if (!peer.ok()) Die(std::string(peer.status().message()));
    peers.push_back(*std::move(peer));
  }
  for (const auto& peer : peers)
    if (const auto micros = peer->MicrosToFirstByte(); !micros.ok())
      Die(std::string(micros.status().message()));
  return static_cast<double>(NowMicros() - begin) / 1000;
}

void Run() {
  AgentHome home;
  const std::string guest = home.AddImage(BuiltFile("e2e/guest/guest.elf"), "guest");
  auto agent = AgentProcess::Start(home);
  if (!agent.ok()) Die(std::string(agent.status().message()));
  const auto vms = v1::VmService::NewStub((*agent)->channel());
  Fleet fleet(vms.get(), guest);
  const double cores_a_start = static_cast<double>(sysconf(_SC_NPROCESSORS_ONLN)) / kVms;
  std::vector<double> drover, bare;
  for (int round = 0; round < kRounds; ++round) {
    drover.push_back(fleet.Run() * cores_a_start);
    absl::SleepFor(kRest);
    bare.push_back(RunBare(guest) * cores_a_start);
    absl::SleepFor(kRest);
  }
  Print({.name = "start/hundred_at_once/core_time_a_start",
         .value = Quantile(drover, 0.5),
         .unit = "ms",
         .baseline = Quantile(bare, 0.5),
         .baseline_name = "bare KVM program, a hundred at once",
         .samples = drover});
}

}  // namespace
}  // namespace drover

int main() {
  drover::Run();
  return 0;
}
