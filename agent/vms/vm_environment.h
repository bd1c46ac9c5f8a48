#ifndef DROVER_AGENT_VMS_VM_ENVIRONMENT_H_
#define DROVER_AGENT_VMS_VM_ENVIRONMENT_H_

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "agent/helper/helper.h"
#include "agent/registry/registry.h"
#include "agent/vms/executor.h"
#include "agent/vms/janitor.h"
#include "agent/vms/vm_observer.h"
#include "agent/worker/worker_loop.h"
#include "vmm/base/clock.h"

namespace drover {

class ManagedVm;

// How long things may take. The defaults are for production; tests shorten them.
struct VmLimits {
  using Limit = std::chrono::nanoseconds;
  Limit operation_wait = std::chrono::seconds(10);     // for another operation on the same VM
  Limit bring_up = std::chrono::seconds(60);           // Hello, Configure, Start
  Limit call = std::chrono::seconds(10);               // pause, resume, power button, console
  Limit reset = std::chrono::seconds(60);              // rebuilds the machine
  Limit join = std::chrono::seconds(2);                // Hello of a worker that runs already
  Limit stop_call = std::chrono::seconds(5);           // Stop, once the grace is over
  Limit stop_exit = std::chrono::seconds(5);           // from there to the worker's end
  Limit kill_exit = std::chrono::seconds(10);          // from SIGKILL to the worker's end
  Limit stop_slack = std::chrono::seconds(10);         // that StopVm waits beyond all these
  Limit press_again = std::chrono::milliseconds(250);  // to a guest that does not listen yet
  Limit ping_period = std::chrono::seconds(5);         // between questions whether it is there
  Limit ping = std::chrono::seconds(5);                // for the answer; unknown after it
  Limit hangup = std::chrono::milliseconds(300);       // from end of connection to end of process
  Limit linger = std::chrono::seconds(5);              // from end of machine to end of process
  Limit first_retry = std::chrono::milliseconds(250);
  Limit last_retry = std::chrono::seconds(10);
  Limit look = std::chrono::milliseconds(250);  // whether a stop's caller still waits
  int waiting_stops = 256;                      // StopVm calls in their guests' grace
  Limit adoption = std::chrono::seconds(20);    // of all VMs, when the agent starts
};

// What every VM needs of its agent. Owned by the VmManager; outlives its VMs.
struct VmEnvironment {
  Registry* registry = nullptr;
  Helper* helper = nullptr;
  const Clock* clock = nullptr;
  VmObserver* observer = nullptr;
  WorkerLoop* loop = nullptr;
  Executor* executor = nullptr;
  Janitor* janitor = nullptr;
  std::string workers_directory;      // STATE_DIR/workers
  std::vector<std::string> withheld;  // capabilities that every worker does without
  VmLimits limits;
  // The VM is gone from the registry.
  std::function<void(const ManagedVm*)> forget;
  // The agent ends: nothing new is begun.
  std::atomic<bool> stopping{false};
};

}  // namespace drover

#endif  // DROVER_AGENT_VMS_VM_ENVIRONMENT_H_
