#include "vmm/worker/console.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr size_t kChunk = 4096;
constexpr size_t kInputChunk = 256;
constexpr int kChunksPerTurn = 32;

}  // namespace

Console::Console(EventLoop* loop) : loop_(loop), self_(std::make_shared<Console*>(this)) {}

Console::~Console() {
  for (const auto& [fd, attachment] : attachments_) loop_->Unwatch(fd);
}

void Console::Post(void (Console::*task)()) {
  loop_->Post([weak = std::weak_ptr<Console*>(self_), task] {
    if (const auto self = weak.lock()) ((*self)->*task)();
  });
}

void Console::Append(std::span<const uint8_t> data) {
  if (data.empty()) return;
  {
    MutexLock lock(&mutex_);
    ring_.Append(data);
    // Who attaches is sent what there is.
    if (!attached_ || std::exchange(flush_posted_, true)) return;
  }
  Post(&Console::FlushPosted);
}

void Console::InputReady() {
  {
    MutexLock lock(&mutex_);
    if (std::exchange(give_posted_, true)) return;
  }
  Post(&Console::GivePosted);
}

void Console::FlushPosted() {
  {
    MutexLock lock(&mutex_);
    flush_posted_ = false;
  }
  Flush();
}

void Console::GivePosted() {
  {
    MutexLock lock(&mutex_);
    give_posted_ = false;
  }
  for (auto& [fd, attachment] : attachments_)
    if (GiveInput(attachment)) UpdateWatch(attachment);
}

absl::StatusOr<Console::Attached> Console::Attach() {
  if (attachments_.size() >= kMaxAttachments)
    return WithReason(
        absl::ResourceExhaustedError(absl::StrCat("the console has ", kMaxAttachments,
                                                  " attachments, the most there may be; end one")),
        "CONSOLE_LIMIT");
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
    return PosixStatus(errno, "socketpair", "console");
  Fd ours(fds[0]);
  Attached attached{.stream = Fd(fds[1])};
  {
    MutexLock lock(&mutex_);
    attached.lost_bytes = ring_.oldest();
    attached_ = true;
  }
  const int fd = ours.get();
  RETURN_IF_ERROR(loop_->Watch(fd, EPOLLIN, [this, fd](uint32_t events) { OnEvents(fd, events); }));
  Attachment& attachment =
      attachments_[fd] = {.socket = std::move(ours), .next = attached.lost_bytes, .input = {}};
  if (!Send(attachment)) Remove(fd);
  return attached;
}

bool Console::Flush() {
  bool drained = true;
  std::vector<int> gone;
  for (auto& [fd, attachment] : attachments_) {
    if (!Send(attachment)) gone.push_back(fd);
    drained = drained && !attachment.blocked;
  }
  for (const int fd : gone) Remove(fd);
  return drained;
}

// Sends until the output ends, the socket is full or it is others' turn on the loop: a guest that
// writes as fast as its reader reads must not keep the loop. False when the reader has gone or fell
// so far behind that bytes would be missing.
bool Console::Send(Attachment& attachment) {
  std::array<uint8_t, kChunk> chunk;
  for (int turn = 0;; ++turn) {
    if (turn == kChunksPerTurn) {
      SetBlocked(attachment, true);  // the socket has room: its turn comes again
      return true;
    }
    size_t size;
    {
      MutexLock lock(&mutex_);
      if (attachment.next < ring_.oldest()) return false;
      size = ring_.Copy(attachment.next, chunk);
    }
    const ssize_t sent =
        size == 0 ? 0
                  : send(attachment.socket.get(), chunk.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return false;
    SetBlocked(attachment, sent < 0);
    if (sent <= 0) return true;
    attachment.next += static_cast<uint64_t>(sent);
  }
}

void Console::SetBlocked(Attachment& attachment, bool blocked) {
  if (std::exchange(attachment.blocked, blocked) != blocked) UpdateWatch(attachment);
}

void Console::OnEvents(int fd, uint32_t events) {
  const auto it = attachments_.find(fd);
  if (it == attachments_.end()) return;
  Attachment& attachment = it->second;
  bool keep = true;
  if (events & EPOLLIN) keep = ReadInput(attachment);
  if (keep && (events & EPOLLOUT)) keep = Send(attachment);
  // Both directions are shut: nobody is there any more.
  if (!keep || (events & (EPOLLHUP | EPOLLERR))) Remove(fd);
}

bool Console::ReadInput(Attachment& attachment) {
  if (!attachment.input.empty() || attachment.input_ended) return true;
  char buffer[kInputChunk];
  const ssize_t n = recv(attachment.socket.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  attachment.input_ended = n == 0;
  attachment.input.assign(buffer, static_cast<size_t>(n));
  GiveInput(attachment);
  UpdateWatch(attachment);
  return true;
}

// Hands kept input to the guest; true when some was there and none is left.
bool Console::GiveInput(Attachment& attachment) {
  if (attachment.input.empty()) return false;
  const size_t taken = input_ ? input_({reinterpret_cast<const uint8_t*>(attachment.input.data()),
                                        attachment.input.size()})
                              : attachment.input.size();
  attachment.input.erase(0, taken);
  return attachment.input.empty();
}

// Waits for input only while none is kept, and for room only while some is needed.
void Console::UpdateWatch(const Attachment& attachment) {
  uint32_t events = 0;
  if (attachment.input.empty() && !attachment.input_ended) events |= EPOLLIN;
  if (attachment.blocked) events |= EPOLLOUT;
  if (auto status = loop_->Modify(attachment.socket.get(), events); !status.ok())
    Log(LogLevel::kError, "console attachment", {{"error", status.message()}});
}

void Console::Remove(int fd) {
  loop_->Unwatch(fd);
  attachments_.erase(fd);
  MutexLock lock(&mutex_);
  attached_ = !attachments_.empty();
}

}  // namespace drover
