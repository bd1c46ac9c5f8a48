#ifndef DROVER_VMM_WORKER_WORKER_H_
#define DROVER_VMM_WORKER_WORKER_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/clock.h"
#include "vmm/base/event_loop.h"
#include "vmm/core/hypervisor.h"
#include "vmm/worker/console.h"
#include "vmm/worker/control_server.h"
#include "vmm/worker/last_words.h"
#include "vmm/worker/launch.h"
#include "vmm/worker/machine.h"

namespace drover {

// One VM's worker: the machine, its console, the control socket and the last words, on one event
// loop. After the machine's end it answers what waits, leaves its last words, lingers until the
// agent has hung up (kLinger at most), and stops the loop. Loop-bound.
class Worker {
 public:
  static constexpr std::chrono::milliseconds kLinger{1000};

  struct Options {
    EventLoop* loop = nullptr;
    Hypervisor* hypervisor = nullptr;  // nullptr: `hypervisor_status` says why there is none
    absl::Status hypervisor_status;
    const Clock* clock = nullptr;
    Launch launch;
    VcpuThreadSource make_vcpu_thread;        // as in VcpuThreads
    std::function<absl::Status()> on_memory;  // as in MachineEnvironment
    std::function<absl::Status()> confine;    // once the machine is built; may be empty
  };
  static absl::StatusOr<std::unique_ptr<Worker>> Create(Options options);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  const MachineStatus& status() const { return machine_.status(); }

 private:
  using Responder = ControlServer::Responder;
  struct Calls;

  explicit Worker(Options options);
  void Handle(const ControlCall& call, const Responder& respond);
  void Answer(const Responder& respond, absl::Status status);
  void Hello(const HelloCall& call, const Responder& respond);
  void Configure(const ConfigureCall& call, const Responder& respond);
  void AttachConsole(const Responder& respond);
  void OnChange(const MachineStatus& status);
  void Linger();

  Options options_;
  Console console_;
  LastWords last_words_;
  Machine machine_;
  std::unique_ptr<ControlServer> server_;
  std::chrono::steady_clock::time_point linger_until_;
  bool ended_ = false;
};

}  // namespace drover

#endif  // DROVER_VMM_WORKER_WORKER_H_
