#ifndef DROVER_VMM_WORKER_CONSOLE_H_
#define DROVER_VMM_WORKER_CONSOLE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"
#include "vmm/base/mutex.h"
#include "vmm/worker/console_ring.h"

namespace drover {

// The guest's console between its serial port and whoever is attached: keeps the last 64 KiB of
// output, gives each attachment the kept output and then what follows, and brings its input to the
// guest. Loop-bound, but for Append and InputReady, which any thread may call and which never
// block. Owned by the worker; outlives the devices that call it.
class Console {
 public:
  static constexpr size_t kMaxAttachments = 16;

  // Takes input for the guest: how many of the bytes it took, from the first on. Where it took
  // fewer than all, InputReady is called once it takes more. Called on the loop.
  using Input = std::function<size_t(std::span<const uint8_t>)>;

  explicit Console(EventLoop* loop);
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  void SetInput(Input input) { input_ = std::move(input); }

  // Any thread: output of the guest.
  void Append(std::span<const uint8_t> data);
  // Any thread: the guest's side takes input again.
  void InputReady();

  struct Attached {
    Fd stream;                // the reader's end of a SOCK_STREAM pair
    uint64_t lost_bytes = 0;  // written by the guest before the stream's first byte
  };
  // RESOURCE_EXHAUSTED, reason CONSOLE_LIMIT, beyond kMaxAttachments.
  absl::StatusOr<Attached> Attach();

  // Sends what it can without waiting; true when no attachment waits for more.
  bool Flush();
  size_t attachments() const { return attachments_.size(); }

 private:
  struct Attachment {
    Fd socket;
    uint64_t next;             // position in the output of the next byte to send
    std::string input;         // read, and not yet taken by the guest
    bool input_ended = false;  // the reader has shut its sending side down
    bool blocked = false;      // its socket is full
  };

  void OnEvents(int fd, uint32_t events);
  bool Send(Attachment& attachment);
  void SetBlocked(Attachment& attachment, bool blocked);
  bool ReadInput(Attachment& attachment);
  bool GiveInput(Attachment& attachment);
  void UpdateWatch(const Attachment& attachment);
  void Remove(int fd);
  void Post(void (Console::*task)());
  void FlushPosted();
  void GivePosted();

  EventLoop* const loop_;
  Input input_;
  std::map<int, Attachment> attachments_;
  // Posted tasks hold it weakly: they may run after the console has gone.
  std::shared_ptr<Console*> self_;

  Mutex mutex_;
  ConsoleRing ring_ ABSL_GUARDED_BY(mutex_);
  bool attached_ ABSL_GUARDED_BY(mutex_) = false;  // there are attachments_
  bool flush_posted_ ABSL_GUARDED_BY(mutex_) = false;
  bool give_posted_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace drover

#endif  // DROVER_VMM_WORKER_CONSOLE_H_
