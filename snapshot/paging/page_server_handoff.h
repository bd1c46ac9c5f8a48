#ifndef DROVER_SNAPSHOT_PAGING_PAGE_SERVER_HANDOFF_H_
#define DROVER_SNAPSHOT_PAGING_PAGE_SERVER_HANDOFF_H_

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "vmm/base/fd.h"

namespace drover {

// Where a page server finds a region's contents: `size` bytes at `offset` of the backing file
// belong at `base_host_virt_addr` of the process whose userfaultfd comes with it. The layout is
// Firecracker's (src/vmm/src/persist.rs, GuestRegionUffdMapping), so that a handler that was
// written for it serves Drover's VMs as it is.
struct GuestRegionUffdMapping {
  uint64_t base_host_virt_addr = 0;
  uint64_t size = 0;       // bytes
  uint64_t offset = 0;     // bytes
  uint64_t page_size = 0;  // bytes: 4096 or 2 MiB. Also sent as "page_size_kib", in bytes as well

  bool operator==(const GuestRegionUffdMapping&) const = default;
};
std::ostream& operator<<(std::ostream& out, const GuestRegionUffdMapping& mapping);

// The JSON array that is sent: one line without white space, end or length.
std::string ToJson(std::span<const GuestRegionUffdMapping> mappings);
// What ToJson, or another VMM, wrote: an array of 1 to 4,096 objects, members in any order, unknown
// ones ignored, "page_size_kib" (bytes) taken where "page_size" is missing. INVALID_ARGUMENT that
// names the object and the member: sizes and offsets must be whole pages and not wrap, regions must
// not overlap, neither in memory nor in the file.
absl::StatusOr<std::vector<GuestRegionUffdMapping>> MappingsFromJson(absl::string_view json);

// The one message of the hand-off: the JSON and the userfaultfd (SCM_RIGHTS), over a connected
// SOCK_STREAM unix socket. No answer is read. The socket then stays open as long as the memory
// lives: its end is how either side learns of the other's. UNAVAILABLE when the peer is gone,
// DEADLINE_EXCEEDED when it takes nothing for `timeout`.
absl::Status SendHandOff(int socket, std::span<const GuestRegionUffdMapping> mappings,
                         int userfaultfd, std::chrono::milliseconds timeout);

// The other side of it: what came within `timeout`. INVALID_ARGUMENT for a message that is too
// long, no such JSON, or without exactly one descriptor; UNAVAILABLE when the peer closed first;
// DEADLINE_EXCEEDED.
struct HandOff {
  std::vector<GuestRegionUffdMapping> mappings;
  Fd userfaultfd;
};
absl::StatusOr<HandOff> ReceiveHandOff(int socket, std::chrono::milliseconds timeout);

// Who is at the other end of a connected unix socket (SO_PEERCRED), as of its connect or listen.
absl::StatusOr<pid_t> PeerPid(int socket);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_PAGING_PAGE_SERVER_HANDOFF_H_
