#include "agent/worker/fake_worker.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <future>
#include <utility>

#include "proto/worker/v1/worker.pb.h"
#include "vmm/base/status.h"
#include "vmm/base/status_proto.h"
#include "vmm/core/vm_plan_proto.h"

namespace drover {
namespace {

void FillStatus(const MachineReport& report, worker::v1::MachineStatus* proto) {
  proto->set_state(static_cast<worker::v1::MachineState>(report.state));
  proto->set_reason(report.reason);
  proto->set_message(report.message);
  proto->set_boot_count(report.boot_count);
  if (report.plan != VmPlan()) PlanToProto(report.plan, proto->mutable_plan());
}

MachineConfig ConfigOf(const worker::v1::ConfigureRequest& proto) {
  return {proto.vm_id(),
          proto.vcpus(),
          proto.memory_bytes(),
          proto.command_line(),
          FeaturesFromProto(proto.features()),
          {proto.withheld_capabilities().begin(), proto.withheld_capabilities().end()}};
}

std::string EncodeMachine(uint64_t sequence, const MachineReport& report) {
  worker::v1::WorkerResponse response;
  response.set_sequence(sequence);
  FillStatus(report, response.mutable_machine());
  return response.SerializeAsString();
}

std::string EncodeError(uint64_t sequence, const absl::Status& error) {
  worker::v1::WorkerResponse response;
  response.set_sequence(sequence);
  *response.mutable_status() = StatusToProto(error);
  return response.SerializeAsString();
}

WorkerCall CallOf(const worker::v1::WorkerRequest& request) {
  return static_cast<WorkerCall>(request.call_case() - worker::v1::WorkerRequest::kHello);
}

absl::Status WrongState(const MachineReport& report) {
  return WithReason(absl::FailedPreconditionError("the machine is in state " +
                                                  std::to_string(static_cast<int>(report.state))),
                    "WRONG_STATE");
}

}  // namespace

std::string EncodeLastWords(const std::string& instance_id, const MachineReport& report) {
  worker::v1::LastWords words;
  words.set_instance_id(instance_id);
  FillStatus(report, words.mutable_machine());
  return words.SerializeAsString();
}

absl::StatusOr<std::unique_ptr<FakeWorker>> FakeWorker::Serve(const std::string& instance_id,
                                                              const std::string& socket_path,
                                                              OnExit on_exit) {
  ASSIGN_OR_RETURN(Fd listener, ListenUnix(socket_path, 0600));
  ASSIGN_OR_RETURN(std::unique_ptr<EventLoop> loop, EventLoop::Create());
  FakeWorker* fake =
      new FakeWorker(instance_id, std::move(loop), std::move(listener), std::move(on_exit));
  return std::unique_ptr<FakeWorker>(fake);
}

FakeWorker::FakeWorker(std::string instance_id, std::unique_ptr<EventLoop> loop, Fd listener,
                       OnExit on_exit)
    : loop_(std::move(loop)),
      on_exit_(std::move(on_exit)),
      listener_(std::move(listener)),
      instance_id_(std::move(instance_id)) {
  report_.state = ReportedState::kCreated;
  (void)loop_->Watch(listener_.get(), EPOLLIN, [this](uint32_t) { Accept(); });
  thread_ = std::thread([this] { loop_->Run(); });
}

FakeWorker::~FakeWorker() {
  loop_->Stop();
  thread_.join();
}

void FakeWorker::Accept() {
  absl::StatusOr<UnixChannel> channel = AcceptUnix(listener_.get());
  if (!channel.ok() || refuses_) return;
  DropConnection();
  connection_ = *std::move(channel);
  (void)loop_->Watch(connection_.fd(), EPOLLIN, [this](uint32_t) { Receive(); });
}

void FakeWorker::DropConnection() {
  if (!connection_.valid()) return;
  loop_->Unwatch(connection_.fd());
  connection_.Close();
}

void FakeWorker::Receive() {
  const absl::StatusOr<ChannelMessage> message = connection_.Receive(std::chrono::milliseconds(0));
  if (message.ok()) return Handle(*message);
  if (!absl::IsDeadlineExceeded(message.status())) DropConnection();
}

void FakeWorker::Send(const std::string& bytes, absl::Span<const int> fds) {
  if (connection_.valid()) (void)connection_.Send(bytes, fds);
}

void FakeWorker::Handle(const ChannelMessage& message) {
  worker::v1::WorkerRequest request;
  if (!request.ParseFromString(message.bytes)) return DropConnection();
  const WorkerCall call = CallOf(request);
  Behaviour behaviour;
  {
    MutexLock lock(&mutex_);
    calls_.push_back(call);
    behaviour = script_[call];
    if (request.has_configure()) config_ = ConfigOf(request.configure());
  }
  switch (behaviour.kind) {
    case Behaviour::kObey:
      return Obey(request.sequence(), call);
    case Behaviour::kRefuse:
      return Send(EncodeError(request.sequence(), behaviour.error));
    case Behaviour::kHang:
      return;
    case Behaviour::kDie:
      return Exit("");
    case Behaviour::kGarbage:
      return Send("\xff\xff\xff garbage");
    case Behaviour::kObeySilently:
      bool ends = false;
      (void)Apply(call, &ends);
      return;
  }
}

void FakeWorker::Obey(uint64_t sequence, WorkerCall call) {
  if (call == WorkerCall::kHello) return AnswerHello(sequence);
  if (call == WorkerCall::kAttachConsole) return AnswerConsole(sequence);
  bool ends = false;
  const absl::Status status = Apply(call, &ends);
  Send(status.ok() ? EncodeMachine(sequence, report()) : EncodeError(sequence, status));
  if (!ends) return;
  const bool stop = call == WorkerCall::kStop;
  End({ReportedState::kStopped, stop ? "STOP_REQUESTED" : "GUEST_SHUTDOWN", "", 0}, true);
}

void FakeWorker::AnswerHello(uint64_t sequence) {
  worker::v1::WorkerResponse response;
  response.set_sequence(sequence);
  {
    MutexLock lock(&mutex_);
    response.mutable_hello()->set_protocol(protocol_);
    response.mutable_hello()->set_version("0.1.0-fake");
    response.mutable_hello()->set_instance_id(instance_id_);
    FillStatus(report_, response.mutable_hello()->mutable_machine());
  }
  Send(response.SerializeAsString());
}

void FakeWorker::AnswerConsole(uint64_t sequence) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return;
  Fd theirs(ends[0]);
  {
    MutexLock lock(&mutex_);
    console_ = Fd(ends[1]);
    (void)WriteAll(console_.get(), "hello from the guest\n");
  }
  worker::v1::WorkerResponse response;
  response.set_sequence(sequence);
  response.mutable_attach_console()->set_lost_bytes(7);
  Send(response.SerializeAsString(), {theirs.get()});
}

// The machine's own transition for a call that succeeds.
absl::Status FakeWorker::Apply(WorkerCall call, bool* ends) {
  MutexLock lock(&mutex_);
  const ReportedState state = report_.state;
  const bool runs = state == ReportedState::kRunning;
  const bool paused = state == ReportedState::kPaused;
  const bool allowed = call == WorkerCall::kPause         ? runs
                       : call == WorkerCall::kResume      ? paused
                       : call == WorkerCall::kStop        ? true
                       : call == WorkerCall::kReset       ? runs || paused
                       : call == WorkerCall::kPowerButton ? runs || paused
                                                          : state == ReportedState::kCreated;
  if (!allowed) return WrongState(report_);
  if (call == WorkerCall::kConfigure) report_.plan = plan_;
  *ends = call == WorkerCall::kStop || (call == WorkerCall::kPowerButton && obeys_power_button_);
  if (call == WorkerCall::kStart || call == WorkerCall::kReset) ++report_.boot_count;
  if (call == WorkerCall::kStart || call == WorkerCall::kReset || call == WorkerCall::kResume)
    report_.state = ReportedState::kRunning;
  if (call == WorkerCall::kPause) report_.state = ReportedState::kPaused;
  return absl::OkStatus();
}

void FakeWorker::End(const MachineReport& report, bool event) {
  std::string words;
  {
    MutexLock lock(&mutex_);
    const uint32_t boots = report_.boot_count;
    report_ = report;
    report_.boot_count = boots;
    words = EncodeLastWords(instance_id_, report_);
  }
  if (event) Send(EncodeMachine(0, this->report()));
  Exit(words);
}

void FakeWorker::Exit(const std::string& last_words) {
  DropConnection();
  if (listener_.valid()) loop_->Unwatch(listener_.get());
  listener_.Reset();
  if (on_exit_) on_exit_(last_words);
}

void FakeWorker::Script(WorkerCall call, Behaviour behaviour) {
  MutexLock lock(&mutex_);
  script_[call] = std::move(behaviour);
}

void FakeWorker::set_obeys_power_button(bool obeys) {
  MutexLock lock(&mutex_);
  obeys_power_button_ = obeys;
}

void FakeWorker::set_plan(VmPlan plan) {
  MutexLock lock(&mutex_);
  plan_ = std::move(plan);
}

void FakeWorker::set_instance_id(const std::string& instance_id) {
  MutexLock lock(&mutex_);
  instance_id_ = instance_id;
}

void FakeWorker::set_protocol(uint32_t protocol) {
  MutexLock lock(&mutex_);
  protocol_ = protocol;
}

void FakeWorker::PowerOff() {
  loop_->Post([this] { End({ReportedState::kStopped, "GUEST_SHUTDOWN", "", 0}, true); });
}

void FakeWorker::Reset() {
  loop_->Post([this] {
    {
      MutexLock lock(&mutex_);
      ++report_.boot_count;
    }
    Send(EncodeMachine(0, report()));
  });
}

void FakeWorker::Fail(const std::string& reason) {
  loop_->Post([this, reason] { End({ReportedState::kFailed, reason, "it broke", 0}, true); });
}

void FakeWorker::EndQuietly(const MachineReport& report) {
  loop_->Post([this, report] { End(report, false); });
}

void FakeWorker::Die() {
  loop_->Post([this] { Exit(""); });
}

void FakeWorker::SendEvent(const MachineReport& report) {
  loop_->Post([this, report] { Send(EncodeMachine(0, report)); });
}

void FakeWorker::SendRaw(const std::string& bytes) {
  loop_->Post([this, bytes] { Send(bytes); });
}

void FakeWorker::Disconnect(bool refuse) {
  std::promise<void> done;
  loop_->Post([this, refuse, &done] {
    refuses_ = refuse;
    DropConnection();
    done.set_value();
  });
  done.get_future().wait();
}

void FakeWorker::Vanish() {
  loop_->Post([this] {
    DropConnection();
    if (listener_.valid()) loop_->Unwatch(listener_.get());
    listener_.Reset();
  });
}

MachineReport FakeWorker::report() const {
  MutexLock lock(&mutex_);
  return report_;
}

MachineConfig FakeWorker::config() const {
  MutexLock lock(&mutex_);
  return config_;
}

std::vector<WorkerCall> FakeWorker::calls() const {
  MutexLock lock(&mutex_);
  return calls_;
}

Fd FakeWorker::TakeConsole() {
  MutexLock lock(&mutex_);
  return std::move(console_);
}

}  // namespace drover
