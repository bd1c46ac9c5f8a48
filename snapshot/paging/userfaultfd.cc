#include "snapshot/paging/userfaultfd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "absl/strings/str_format.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

std::string RangeText(uint64_t address, uint64_t size) {
  return absl::StrFormat("%#x bytes at %#x", size, address);
}

absl::StatusOr<Fd> Open(int device) {
  constexpr int kFlags = O_CLOEXEC | O_NONBLOCK;
  Fd fd(device >= 0 ? ioctl(device, USERFAULTFD_IOC_NEW, kFlags)
                    : static_cast<int>(syscall(SYS_userfaultfd, kFlags)));
  if (!fd.valid()) return PosixStatus(errno, "userfaultfd", "");
  return fd;
}

// What the outcome of UFFDIO_COPY or UFFDIO_ZEROPAGE means: `done` is the kernel's count of bytes,
// or a negative errno in its place.
absl::StatusOr<Userfaultfd::Progress> Outcome(int error, int64_t done, const char* call,
                                              const std::string& what) {
  const uint64_t bytes = done > 0 ? static_cast<uint64_t>(done) : 0;
  switch (error) {
    case 0:
      return Userfaultfd::Progress{Filled::kDone, bytes};
    case EEXIST:
      return Userfaultfd::Progress{Filled::kPresent, bytes};
    case EAGAIN:
      return Userfaultfd::Progress{Filled::kAgain, bytes};
    case ENOENT:
    case ESRCH:
      return Userfaultfd::Progress{Filled::kGone, bytes};
    default:
      return PosixStatus(error, call, what);
  }
}

PagingEvent EventOf(const struct uffd_msg& message) {
  switch (message.event) {
    case UFFD_EVENT_PAGEFAULT: {
      const uint64_t flags = message.arg.pagefault.flags;
      const PagingEvent::Kind kind =
          (flags & UFFD_PAGEFAULT_FLAG_WP) != 0      ? PagingEvent::Kind::kWriteProtected
          : (flags & UFFD_PAGEFAULT_FLAG_MINOR) != 0 ? PagingEvent::Kind::kMinor
                                                     : PagingEvent::Kind::kMissing;
      return {.kind = kind,
              .start = message.arg.pagefault.address,
              .write = (flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0};
    }
    case UFFD_EVENT_REMOVE:
      return {.kind = PagingEvent::Kind::kRemove,
              .start = message.arg.remove.start,
              .end = message.arg.remove.end};
    default:
      return {};
  }
}

}  // namespace

absl::StatusOr<Userfaultfd> Userfaultfd::Create(int device, uint64_t features) {
  ASSIGN_OR_RETURN(Fd fd, Open(device));
  struct uffdio_api api = {.api = UFFD_API, .features = features};
  if (ioctl(fd.get(), UFFDIO_API, &api) == 0) return Userfaultfd(std::move(fd));
  if (errno != EINVAL) return PosixStatus(errno, "UFFDIO_API", "");
  return absl::UnimplementedError(
      absl::StrFormat("this host's userfaultfd has not all of the features %#x", features));
}

absl::Status Userfaultfd::Register(const void* address, uint64_t size, unsigned modes) {
  struct uffdio_register args = {};
  args.range = {.start = reinterpret_cast<uintptr_t>(address), .len = size};
  if ((modes & kMissing) != 0) args.mode |= UFFDIO_REGISTER_MODE_MISSING;
  if ((modes & kWriteProtect) != 0) args.mode |= UFFDIO_REGISTER_MODE_WP;
  if ((modes & kMinor) != 0) args.mode |= UFFDIO_REGISTER_MODE_MINOR;
  if (ioctl(fd_.get(), UFFDIO_REGISTER, &args) == 0) return absl::OkStatus();
  return PosixStatus(errno, "UFFDIO_REGISTER", RangeText(args.range.start, size));
}

absl::Status Userfaultfd::Unregister(const void* address, uint64_t size) {
  struct uffdio_range range = {.start = reinterpret_cast<uintptr_t>(address), .len = size};
  if (ioctl(fd_.get(), UFFDIO_UNREGISTER, &range) == 0) return absl::OkStatus();
  return PosixStatus(errno, "UFFDIO_UNREGISTER", RangeText(range.start, size));
}

absl::StatusOr<Userfaultfd::Progress> Userfaultfd::Copy(uint64_t to,
                                                        std::span<const uint8_t> from) {
  struct uffdio_copy args = {
      .dst = to, .src = reinterpret_cast<uintptr_t>(from.data()), .len = from.size()};
  const int error = ioctl(fd_.get(), UFFDIO_COPY, &args) == 0 ? 0 : errno;
  // Whoever waits there may have come after the content: without a wake it would wait for ever.
  if (error == EEXIST) (void)Wake(to, from.size());
  return Outcome(error, args.copy, "UFFDIO_COPY", RangeText(to, from.size()));
}

absl::StatusOr<Userfaultfd::Progress> Userfaultfd::Zero(uint64_t to, uint64_t size) {
  struct uffdio_zeropage args = {.range = {.start = to, .len = size}};
  const int error = ioctl(fd_.get(), UFFDIO_ZEROPAGE, &args) == 0 ? 0 : errno;
  if (error == EEXIST) (void)Wake(to, size);
  return Outcome(error, args.zeropage, "UFFDIO_ZEROPAGE", RangeText(to, size));
}

absl::Status Userfaultfd::WriteProtect(uint64_t address, uint64_t size, bool on) {
  struct uffdio_writeprotect args = {.range = {.start = address, .len = size},
                                     .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};
  if (ioctl(fd_.get(), UFFDIO_WRITEPROTECT, &args) == 0) return absl::OkStatus();
  return PosixStatus(errno, "UFFDIO_WRITEPROTECT", RangeText(address, size));
}

absl::Status Userfaultfd::Wake(uint64_t address, uint64_t size) {
  struct uffdio_range range = {.start = address, .len = size};
  if (ioctl(fd_.get(), UFFDIO_WAKE, &range) == 0) return absl::OkStatus();
  return PosixStatus(errno, "UFFDIO_WAKE", RangeText(address, size));
}

absl::StatusOr<std::vector<PagingEvent>> Userfaultfd::Read(size_t most) {
  std::vector<struct uffd_msg> messages(most);
  ssize_t n;
  do {
    n = read(fd_.get(), messages.data(), messages.size() * sizeof(struct uffd_msg));
  } while (n < 0 && errno == EINTR);
  if (n == 0) return absl::UnavailableError("the process whose memory is paged has ended");
  if (n < 0 && errno != EAGAIN) return PosixStatus(errno, "read", "of a userfaultfd");
  std::vector<PagingEvent> events;
  for (size_t i = 0; n > 0 && i < static_cast<size_t>(n) / sizeof(struct uffd_msg); ++i)
    events.push_back(EventOf(messages[i]));
  return events;
}

}  // namespace drover
