#include "snapshot/paging/page_server_handoff.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr size_t kMostRegions = 4096;
constexpr size_t kMostBytes = 1 << 20;  // of JSON; 4,096 objects of the largest numbers are 700 KiB

absl::Status Bad(size_t index, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("page server hand-off: region ", index, ": ", what));
}

absl::StatusOr<uint64_t> Number(const json& object, size_t index, const char* member) {
  const auto found = object.find(member);
  if (found == object.end()) return Bad(index, absl::StrCat("no ", member));
  if (!found->is_number_unsigned())
    return Bad(index, absl::StrCat(member, " is not a number of 0 to 2^64-1"));
  return found->get<uint64_t>();
}

absl::Status CheckMapping(const GuestRegionUffdMapping& mapping, size_t index) {
  if (mapping.page_size != 4096 && mapping.page_size != 2 << 20)
    return Bad(index,
               absl::StrCat("page_size is ", mapping.page_size, ": must be 4096 or 2097152"));
  const std::pair<const char*, uint64_t> numbers[] = {
      {"base_host_virt_addr", mapping.base_host_virt_addr},
      {"size", mapping.size},
      {"offset", mapping.offset}};
  for (const auto& [name, value] : numbers)
    if (value % mapping.page_size != 0)
      return Bad(index, absl::StrFormat("%s is %#x: not whole pages of %u bytes", name, value,
                                        mapping.page_size));
  if (mapping.size == 0) return Bad(index, "size is 0");
  if (mapping.size > UINT64_MAX - mapping.base_host_virt_addr ||
      mapping.size > INT64_MAX - std::min<uint64_t>(mapping.offset, INT64_MAX))
    return Bad(index, absl::StrFormat("size %#x wraps from %#x or from offset %#x", mapping.size,
                                      mapping.base_host_virt_addr, mapping.offset));
  return absl::OkStatus();
}

absl::StatusOr<GuestRegionUffdMapping> MappingOf(const json& object, size_t index) {
  if (!object.is_object()) return Bad(index, "not an object");
  GuestRegionUffdMapping mapping;
  ASSIGN_OR_RETURN(mapping.base_host_virt_addr, Number(object, index, "base_host_virt_addr"));
  ASSIGN_OR_RETURN(mapping.size, Number(object, index, "size"));
  ASSIGN_OR_RETURN(mapping.offset, Number(object, index, "offset"));
  const char* const page_size = object.contains("page_size") ? "page_size" : "page_size_kib";
  ASSIGN_OR_RETURN(mapping.page_size, Number(object, index, page_size));
  RETURN_IF_ERROR(CheckMapping(mapping, index));
  return mapping;
}

// `start` of one region lies in another, when they are in the order of their starts.
template <typename Start>
absl::Status CheckApart(const std::vector<GuestRegionUffdMapping>& mappings, const char* where,
                        Start start) {
  std::vector<size_t> order(mappings.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return start(mappings[a]) < start(mappings[b]); });
  for (size_t i = 1; i < order.size(); ++i) {
    const GuestRegionUffdMapping& before = mappings[order[i - 1]];
    if (start(mappings[order[i]]) - start(before) < before.size)
      return Bad(order[i], absl::StrCat("overlaps region ", order[i - 1], " in ", where));
  }
  return absl::OkStatus();
}

absl::Status WaitFor(int socket, short events, steady_clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now());
    struct pollfd poll_fd = {.fd = socket, .events = events, .revents = 0};
    const int n = poll(&poll_fd, 1, static_cast<int>(std::max<int64_t>(0, left.count())));
    if (n > 0) return absl::OkStatus();
    if (n == 0) return absl::DeadlineExceededError("page server hand-off: the peer is silent");
    if (errno != EINTR) return PosixStatus(errno, "poll", "page server's socket");
  }
}

// A message's ancillary data with at most one descriptor.
struct Control {
  alignas(struct cmsghdr) char bytes[CMSG_SPACE(sizeof(int))] = {};
};

// Sends some of `bytes`, with `fd` unless it is negative. Returns how many.
absl::StatusOr<size_t> SendSome(int socket, absl::string_view bytes, int fd) {
  struct iovec vec = {.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
  Control control;
  struct msghdr header = {};
  header.msg_iov = &vec;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = control.bytes;
    header.msg_controllen = sizeof(control.bytes);
    struct cmsghdr* const c = CMSG_FIRSTHDR(&header);
    *c = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &fd, sizeof(int));
  }
  const ssize_t n = sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n >= 0) return static_cast<size_t>(n);
  if (errno == EAGAIN || errno == EINTR) return size_t{0};
  if (errno == EPIPE || errno == ECONNRESET)
    return absl::UnavailableError("page server hand-off: the page server closed its socket");
  return PosixStatus(errno, "sendmsg", "page server hand-off");
}

// Appends what waits on the socket; a descriptor that comes goes to `fds`. False at the end.
absl::StatusOr<bool> ReceiveSome(int socket, std::string* bytes, std::vector<Fd>* fds) {
  char buffer[16384];
  struct iovec vec = {.iov_base = buffer, .iov_len = sizeof(buffer)};
  alignas(struct cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
  struct msghdr header = {};
  header.msg_iov = &vec;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  const ssize_t n = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (n < 0) return PosixStatus(errno, "recvmsg", "page server hand-off");
  for (struct cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    for (size_t at = 0; at + CMSG_LEN(sizeof(int)) <= c->cmsg_len; at += sizeof(int)) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(c) + at, sizeof(int));
      fds->emplace_back(fd);
    }
  }
  bytes->append(buffer, static_cast<size_t>(n));
  return n != 0;
}

// The message has no length: it is whole when its array is.
bool Whole(const std::string& bytes) { return bytes.ends_with(']') && json::accept(bytes); }

}  // namespace

std::ostream& operator<<(std::ostream& out, const GuestRegionUffdMapping& mapping) {
  return out << ToJson({&mapping, 1});
}

std::string ToJson(std::span<const GuestRegionUffdMapping> mappings) {
  return absl::StrCat(
      "[",
      absl::StrJoin(mappings, ",",
                    [](std::string* out, const GuestRegionUffdMapping& mapping) {
                      absl::StrAppend(out, "{\"base_host_virt_addr\":", mapping.base_host_virt_addr,
                                      ",\"size\":", mapping.size, ",\"offset\":", mapping.offset,
                                      ",\"page_size\":", mapping.page_size,
                                      ",\"page_size_kib\":", mapping.page_size, "}");
                    }),
      "]");
}

absl::StatusOr<std::vector<GuestRegionUffdMapping>> MappingsFromJson(absl::string_view text) {
  const json array = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (array.is_discarded() || !array.is_array())
    return absl::InvalidArgumentError("page server hand-off: not a JSON array");
  if (array.empty() || array.size() > kMostRegions)
    return absl::InvalidArgumentError(absl::StrCat("page server hand-off: ", array.size(),
                                                   " regions: must be 1 to ", kMostRegions));
  std::vector<GuestRegionUffdMapping> mappings;
  for (size_t i = 0; i < array.size(); ++i) {
    ASSIGN_OR_RETURN(mappings.emplace_back(), MappingOf(array[i], i));
  }
  RETURN_IF_ERROR(CheckApart(mappings, "memory",
                             [](const auto& mapping) { return mapping.base_host_virt_addr; }));
  RETURN_IF_ERROR(
      CheckApart(mappings, "the file", [](const auto& mapping) { return mapping.offset; }));
  return mappings;
}

absl::Status SendHandOff(int socket, std::span<const GuestRegionUffdMapping> mappings,
                         int userfaultfd, milliseconds timeout) {
  const auto deadline = steady_clock::now() + timeout;
  const std::string text = ToJson(mappings);
  for (size_t sent = 0; sent < text.size();) {
    RETURN_IF_ERROR(WaitFor(socket, POLLOUT, deadline));
    const int fd = sent == 0 ? userfaultfd : -1;
    ASSIGN_OR_RETURN(const size_t n, SendSome(socket, absl::string_view(text).substr(sent), fd));
    sent += n;
  }
  return absl::OkStatus();
}

absl::StatusOr<HandOff> ReceiveHandOff(int socket, milliseconds timeout) {
  const auto deadline = steady_clock::now() + timeout;
  std::string bytes;
  std::vector<Fd> fds;
  do {
    RETURN_IF_ERROR(WaitFor(socket, POLLIN, deadline));
    ASSIGN_OR_RETURN(const bool more, ReceiveSome(socket, &bytes, &fds));
    if (!more)
      return absl::UnavailableError("page server hand-off: the peer closed before it was whole");
    if (bytes.size() > kMostBytes || fds.size() > 1)
      return absl::InvalidArgumentError(
          absl::StrCat("page server hand-off: ", bytes.size(), " bytes and ", fds.size(),
                       " descriptors: must be at most ", kMostBytes, " bytes and one descriptor"));
  } while (!Whole(bytes));
  HandOff out;
  ASSIGN_OR_RETURN(out.mappings, MappingsFromJson(bytes));
  if (fds.empty()) return absl::InvalidArgumentError("page server hand-off: no userfaultfd");
  out.userfaultfd = std::move(fds[0]);
  return out;
}

absl::StatusOr<pid_t> PeerPid(int socket) {
  struct ucred peer = {};
  socklen_t size = sizeof(peer);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return PosixStatus(errno, "SO_PEERCRED", "of a page server");
  return peer.pid;
}

}  // namespace drover
