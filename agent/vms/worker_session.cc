#include "agent/vms/worker_session.h"

#include <sys/epoll.h>

#include <utility>

#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {

WorkerSession::WorkerSession(WorkerLoop* loop, LaunchedWorker worker, std::string socket_path,
                             OnChange on_change)
    : loop_(loop),
      identity_(std::move(worker.identity)),
      pidfd_(std::make_shared<Fd>(std::move(worker.pidfd))),
      socket_path_(std::move(socket_path)),
      on_change_(std::move(on_change)) {}

void WorkerSession::Watch() {
  loop_->Post([loop = loop_, pidfd = pidfd_, weak = weak_from_this()] {
    if (weak.expired()) return;
    const absl::Status status = loop->loop()->Watch(pidfd->get(), EPOLLIN, [=](uint32_t) {
      loop->loop()->Unwatch(pidfd->get());
      if (const auto self = weak.lock()) self->OnExit();
    });
    if (!status.ok())
      Log(LogLevel::kError, "cannot watch a worker", {{"error", status.ToString()}});
  });
}

void WorkerSession::OnExit() {
  {
    MutexLock lock(&mutex_);
    exited_ = true;
    exit_.SignalAll();
    if (closed_) return;
  }
  on_change_();
}

void WorkerSession::OnReport(const MachineReport& report) {
  {
    MutexLock lock(&mutex_);
    if (closed_ || latest_ == report) return;
    latest_ = report;
    if (IsTerminal(report.state) && !ending_since_)
      ending_since_ = std::chrono::steady_clock::now();
    if (!joined_ && !IsTerminal(report.state)) return;  // whoever joins looks
  }
  on_change_();
}

absl::Status WorkerSession::Connect() {
  WorkerClient::Callbacks callbacks;
  callbacks.on_report = [weak = weak_from_this()](const MachineReport& report) {
    if (const auto self = weak.lock()) self->OnReport(report);
  };
  callbacks.on_closed = [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    {
      MutexLock lock(&self->mutex_);
      if (self->closed_ || !self->joined_) return;  // whoever joins sees it fail
    }
    self->on_change_();
  };
  ASSIGN_OR_RETURN(std::shared_ptr<WorkerClient> client,
                   WorkerClient::Connect(loop_, socket_path_, std::move(callbacks)));
  MutexLock lock(&mutex_);
  client_.swap(client);
  return absl::OkStatus();
}

void WorkerSession::Keep(const WorkerGreeting& greeting) {
  MutexLock lock(&mutex_);
  joined_ = true;
  version_ = greeting.version;
  if (!latest_ || !IsTerminal(latest_->state)) latest_ = greeting.machine;
  if (IsTerminal(latest_->state) && !ending_since_)
    ending_since_ = std::chrono::steady_clock::now();
}

absl::StatusOr<WorkerGreeting> WorkerSession::Join(Limit limit) {
  {
    MutexLock lock(&mutex_);
    joined_ = false;
  }
  RETURN_IF_ERROR(Connect());
  absl::StatusOr<WorkerGreeting> greeting = client()->Hello(identity_.instance_id, limit);
  if (greeting.ok())
    Keep(*greeting);
  else
    client()->Close();
  return greeting;
}

absl::StatusOr<WorkerGreeting> WorkerSession::BringUp(const MachineConfig& config, Limit limit) {
  RETURN_IF_ERROR(Connect());
  ASSIGN_OR_RETURN(const WorkerGreeting greeting,
                   client()->BringUp(identity_.instance_id, config, limit));
  MutexLock lock(&mutex_);
  joined_ = true;
  version_ = greeting.version;  // the state came with the report of Start
  return greeting;
}

void WorkerSession::KeepAlive(Limit period, Limit limit) {
  if (const auto client = this->client()) client->KeepAlive(period, limit);
}

std::shared_ptr<WorkerClient> WorkerSession::client() const {
  MutexLock lock(&mutex_);
  return client_;
}

bool WorkerSession::connected() const {
  const auto client = this->client();
  return client != nullptr && !client->closed();
}

bool WorkerSession::exited() const {
  MutexLock lock(&mutex_);
  return exited_;
}

bool WorkerSession::WaitExit(Limit limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  MutexLock lock(&mutex_);
  while (!exited_)
    if (!exit_.WaitUntil(&mutex_, deadline) && std::chrono::steady_clock::now() >= deadline) break;
  return exited_;
}

std::optional<MachineReport> WorkerSession::latest() const {
  MutexLock lock(&mutex_);
  return latest_;
}

std::optional<MachineReport> WorkerSession::ending() const {
  MutexLock lock(&mutex_);
  return latest_ && IsTerminal(latest_->state) ? latest_ : std::nullopt;
}

std::optional<std::chrono::steady_clock::time_point> WorkerSession::ending_since() const {
  MutexLock lock(&mutex_);
  return ending_since_;
}

std::string WorkerSession::version() const {
  MutexLock lock(&mutex_);
  return version_;
}

void WorkerSession::Close() {
  std::shared_ptr<WorkerClient> client;
  {
    MutexLock lock(&mutex_);
    if (std::exchange(closed_, true)) return;
    client = client_;
  }
  if (client != nullptr) client->Close();
  loop_->Post([loop = loop_, pidfd = pidfd_] { loop->loop()->Unwatch(pidfd->get()); });
}

}  // namespace drover
