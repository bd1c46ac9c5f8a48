#ifndef DROVER_SNAPSHOT_PAGING_USERFAULTFD_H_
#define DROVER_SNAPSHOT_PAGING_USERFAULTFD_H_

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/fd.h"

namespace drover {

// What a userfaultfd tells (Linux Documentation/admin-guide/mm/userfaultfd.rst).
struct PagingEvent {
  enum class Kind {
    kMissing,         // a thread waits for the page at `start`, which has no content yet
    kWriteProtected,  // a thread waits to write the page at `start`
    kMinor,           // a thread waits for the page at `start`, whose content is in the page cache
    kRemove,          // [start, end) was given back (madvise, hole): it reads as zeros from now on
    kOther,           // fork, remap, unmap: not asked for
  };
  Kind kind = Kind::kOther;
  uint64_t start = 0;  // host address
  uint64_t end = 0;    // kRemove only
  bool write = false;  // the thread that waits wants to write
};

// What became of one piece of memory that was to be filled.
enum class Filled {
  kDone,
  kPresent,  // it had content already (EEXIST); whoever waits for it has been woken
  kAgain,    // the address space is changing, events wait to be read (EAGAIN): read them, try again
  kGone,     // no process (ESRCH), or no longer registered there (ENOENT)
};

// One userfaultfd: of this process's memory when Create made it, of another's when it was received.
// While the last descriptor of it stays open, threads wait for pages that nobody fills; when it is
// closed they go on and read zeros. Thread-safe: its calls are single system calls.
class Userfaultfd {
 public:
  enum Mode : unsigned { kMissing = 1, kWriteProtect = 2, kMinor = 4 };

  // Of this process, non-blocking, for faults of the kernel as well (KVM's). By `device`, a
  // descriptor of /dev/userfaultfd, or, when that is negative, by the system call, which needs
  // CAP_SYS_PTRACE or vm.unprivileged_userfaultfd. `features`: UFFD_FEATURE_* bits that must be.
  // UNIMPLEMENTED (naming them) for features that the host has not; PERMISSION_DENIED.
  static absl::StatusOr<Userfaultfd> Create(int device, uint64_t features);
  // One that was received, ready for use.
  explicit Userfaultfd(Fd fd) : fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }

  // [address, address + size), whole pages of one mapping. INVALID_ARGUMENT, ALREADY_EXISTS (EBUSY:
  // another userfaultfd has it).
  absl::Status Register(const void* address, uint64_t size, unsigned modes);
  absl::Status Unregister(const void* address, uint64_t size);

  // Fills [to, to + from.size()) of the registered process with `from`, wakes who waits there, and
  // returns how far it came in bytes with what stopped it. Whole pages.
  struct Progress {
    Filled end = Filled::kDone;
    uint64_t bytes = 0;
  };
  absl::StatusOr<Progress> Copy(uint64_t to, std::span<const uint8_t> from);
  // The same with zeros.
  absl::StatusOr<Progress> Zero(uint64_t to, uint64_t size);
  absl::Status WriteProtect(uint64_t address, uint64_t size, bool on);
  absl::Status Wake(uint64_t address, uint64_t size);

  // The events that wait, up to `most`; none when there are none. UNAVAILABLE when the process has
  // ended.
  absl::StatusOr<std::vector<PagingEvent>> Read(size_t most);

 private:
  Fd fd_;
};

}  // namespace drover

#endif  // DROVER_SNAPSHOT_PAGING_USERFAULTFD_H_
