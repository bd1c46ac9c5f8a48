#include "vmm/worker/worker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"
#include "vmm/base/version.h"

namespace drover {
namespace {

constexpr uint32_t kProtocol = 1;

}  // namespace

Worker::Worker(Options options)
    : options_(std::move(options)),
      console_(options_.loop),
      last_words_(std::move(options_.launch.last_words), options_.launch.instance_id),
      machine_({.environment = {.loop = options_.loop,
                                .hypervisor = options_.hypervisor,
                                .console = &console_,
                                .clock = options_.clock,
                                .kernel_fd = options_.launch.kernel.get(),
                                .initrd_fd = options_.launch.initrd.get(),
                                .on_memory = options_.on_memory},
                .make_vcpu_thread = options_.make_vcpu_thread,
                .on_change = [this](const MachineStatus& status) { OnChange(status); }}) {}

absl::StatusOr<std::unique_ptr<Worker>> Worker::Create(Options options) {
  std::unique_ptr<Worker> worker(new Worker(std::move(options)));
  Worker* const raw = worker.get();
  ASSIGN_OR_RETURN(worker->server_, ControlServer::Create(
                                        raw->options_.loop, std::move(raw->options_.launch.control),
                                        [raw](const ControlCall& call, const Responder& respond) {
                                          raw->Handle(call, respond);
                                        },
                                        [raw] {
                                          if (raw->ended_) raw->Linger();
                                        }));
  return worker;
}

// What each call does.
struct Worker::Calls {
  Worker& worker;
  Machine& machine;
  const Responder& respond;

  Machine::Done Later() const {
    return [&worker = worker, respond = respond](absl::Status status) {
      worker.Answer(respond, std::move(status));
    };
  }
  void operator()(const UnknownCall&) const {
    worker.Answer(respond, absl::UnimplementedError("this worker does not know the call"));
  }
  void operator()(const HelloCall& call) const { worker.Hello(call, respond); }
  void operator()(const ConfigureCall& call) const { worker.Configure(call, respond); }
  void operator()(const StartCall&) const { worker.Answer(respond, machine.Start()); }
  void operator()(const PauseCall&) const { machine.Pause(Later()); }
  void operator()(const ResumeCall&) const { worker.Answer(respond, machine.Resume()); }
  void operator()(const ResetCall&) const { machine.Reset(Later()); }
  void operator()(const PowerButtonCall&) const { worker.Answer(respond, machine.PowerButton()); }
  void operator()(const StopCall&) const { machine.Stop(Later()); }
  void operator()(const AttachConsoleCall&) const { worker.AttachConsole(respond); }
};

void Worker::Handle(const ControlCall& call, const Responder& respond) {
  std::visit(Calls{*this, machine_, respond}, call);
}

void Worker::Answer(const Responder& respond, absl::Status status) {
  respond({.status = std::move(status), .body = machine_.status(), .descriptor = {}});
}

void Worker::Hello(const HelloCall& call, const Responder& respond) {
  if (call.min_protocol > kProtocol || call.max_protocol < kProtocol)
    return Answer(respond,
                  WithReason(absl::FailedPreconditionError(absl::StrCat(
                                 "protocols ", call.min_protocol, " to ", call.max_protocol,
                                 " asked for; this worker speaks ", kProtocol)),
                             "PROTOCOL_UNSUPPORTED"));
  respond({.status = {},
           .body = HelloAnswer{kProtocol, kVersion, options_.launch.instance_id, machine_.status()},
           .descriptor = {}});
}

void Worker::Configure(const ConfigureCall& call, const Responder& respond) {
  absl::Status status = options_.hypervisor == nullptr
                            ? options_.hypervisor_status
                            : machine_.Configure({call.vcpus, call.memory_bytes, call.command_line,
                                                  call.features, call.withheld});
  if (!status.ok()) return Answer(respond, std::move(status));
  // The agent needs not wait for this; no vCPU runs before it is done.
  Answer(respond, absl::OkStatus());
  if (options_.confine) status = options_.confine();
  Log(LogLevel::kInfo, "machine built",
      {{"vm", call.vm_id},
       {"instance", options_.launch.instance_id},
       {"vcpus", call.vcpus},
       {"memory_bytes", static_cast<long long>(call.memory_bytes)}});
  if (status.ok()) return;
  Log(LogLevel::kError, "the main thread could not be confined", {{"error", status.message()}});
  machine_.Stop([](absl::Status) {});
}

void Worker::AttachConsole(const Responder& respond) {
  absl::StatusOr<Console::Attached> attached = console_.Attach();
  if (!attached.ok()) return Answer(respond, attached.status());
  respond({.status = {},
           .body = ConsoleAnswer{attached->lost_bytes},
           .descriptor = std::move(attached->stream)});
}

void Worker::OnChange(const MachineStatus& status) {
  server_->SendEvent(status);
  if (!IsTerminal(status.state)) return;
  if (absl::Status written = last_words_.Write(status); !written.ok())
    Log(LogLevel::kError, "last words", {{"error", written.message()}});
  ended_ = true;
  linger_until_ = std::chrono::steady_clock::now() + kLinger;
  // Posted: the calls that wait are answered first.
  options_.loop->Post([this] { Linger(); });
}

// Stops the loop when nobody needs the worker any more: the console is sent, and the agent has hung
// up or asked for the end itself.
void Worker::Linger() {
  const bool heard = !server_->connected() || machine_.status().reason == "STOP_REQUESTED";
  const bool drained = console_.Flush();
  const auto now = std::chrono::steady_clock::now();
  if ((heard && drained) || now >= linger_until_) return options_.loop->Stop();
  const auto step = heard ? std::chrono::milliseconds(10) : kLinger;
  options_.loop->RunAfter(std::min<std::chrono::nanoseconds>(step, linger_until_ - now),
                          [this] { Linger(); });
}

}  // namespace drover
