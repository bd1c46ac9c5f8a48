#ifndef DROVER_AGENT_WORKER_FAKE_WORKER_H_
#define DROVER_AGENT_WORKER_FAKE_WORKER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/worker/machine_report.h"
#include "agent/worker/worker_proto.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"
#include "vmm/base/mutex.h"
#include "vmm/base/unix_channel.h"

namespace drover {

// A serialized worker.v1.LastWords.
std::string EncodeLastWords(const std::string& instance_id, const MachineReport& report);

// A worker's control server without a machine, on a thread of its own, for tests. It follows the
// rules of worker.proto unless it is told to misbehave. Thread-safe.
class FakeWorker {
 public:
  // What to do with one kind of call instead of obeying it.
  struct Behaviour {
    enum Kind { kObey, kRefuse, kHang, kDie, kGarbage, kObeySilently } kind = kObey;
    absl::Status error;  // of kRefuse
  };
  // Told, on the fake's thread, that the worker has ended by itself, with its last words.
  using OnExit = std::function<void(const std::string& last_words)>;

  static absl::StatusOr<std::unique_ptr<FakeWorker>> Serve(const std::string& instance_id,
                                                           const std::string& socket_path,
                                                           OnExit on_exit);
  ~FakeWorker();

  void Script(WorkerCall call, Behaviour behaviour);
  void Hang(WorkerCall call) { Script(call, {Behaviour::kHang, {}}); }
  void Refuse(WorkerCall call, absl::Status error) {
    Script(call, {Behaviour::kRefuse, std::move(error)});
  }
  // The power button makes the guest power off at once (it does nothing at first).
  void set_obeys_power_button(bool obeys);
  // What the machine's plan is from Configure on.
  void set_plan(VmPlan plan);
  void set_instance_id(const std::string& instance_id);
  void set_protocol(uint32_t protocol);

  // The guest's and the worker's own doings.
  void PowerOff();                               // the guest: stopped, GUEST_SHUTDOWN
  void Reset();                                  // the guest: boots once more
  void Fail(const std::string& reason);          // the machine fails, the worker ends in order
  void EndQuietly(const MachineReport& report);  // last words, but no event
  void Die();                                    // without last words
  void SendEvent(const MachineReport& report);
  void SendRaw(const std::string& bytes);
  // Closes the connection before it returns; with `refuse` no new one is served until it is called
  // with false.
  void Disconnect(bool refuse);
  // Closes its sockets, tells nobody: what SIGKILL does.
  void Vanish();

  MachineReport report() const;
  MachineConfig config() const;
  std::vector<WorkerCall> calls() const;
  // The worker's end of the console that was attached last.
  Fd TakeConsole();

 private:
  FakeWorker(std::string instance_id, std::unique_ptr<EventLoop> loop, Fd listener, OnExit on_exit);
  void Accept();
  void Receive();
  void DropConnection();
  void Handle(const ChannelMessage& message);
  void Obey(uint64_t sequence, WorkerCall call);
  void AnswerHello(uint64_t sequence);
  void AnswerConsole(uint64_t sequence);
  absl::Status Apply(WorkerCall call, bool* ends);
  void End(const MachineReport& report, bool event);
  void Exit(const std::string& last_words);
  void Send(const std::string& bytes, absl::Span<const int> fds = {});

  const std::unique_ptr<EventLoop> loop_;
  const OnExit on_exit_;

  // Of the fake's thread.
  Fd listener_;
  bool refuses_ = false;
  UnixChannel connection_;

  mutable Mutex mutex_;
  std::string instance_id_ ABSL_GUARDED_BY(mutex_);
  uint32_t protocol_ ABSL_GUARDED_BY(mutex_) = 1;
  bool obeys_power_button_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<WorkerCall, Behaviour> script_ ABSL_GUARDED_BY(mutex_);
  MachineReport report_ ABSL_GUARDED_BY(mutex_);
  VmPlan plan_ ABSL_GUARDED_BY(mutex_);
  MachineConfig config_ ABSL_GUARDED_BY(mutex_);
  std::vector<WorkerCall> calls_ ABSL_GUARDED_BY(mutex_);
  Fd console_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace drover

#endif  // DROVER_AGENT_WORKER_FAKE_WORKER_H_
