#ifndef DROVER_SNAPSHOT_MICROVM_STATE_H_
#define DROVER_SNAPSHOT_MICROVM_STATE_H_

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "snapshot/architecture.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/irqchip_state.h"
#include "vmm/core/page_bitmap.h"
#include "vmm/core/vcpu_state.h"
#include "vmm/core/vm_plan.h"

namespace drover {

// Names the content of a memory image: 16 random bytes, never all 0.
using ImageId = std::array<uint8_t, 16>;
std::string ToHex(const ImageId& id);

struct BootSource {
  std::string kernel_path, initrd_path, command_line;
  bool operator==(const BootSource&) const = default;
};

struct VmInfo {
  Architecture architecture = kHostArchitecture;
  std::string vm_id;
  uint32_t vcpus = 0;
  uint64_t memory_bytes = 0;
  BootSource boot_source;
  VmFeatures features;
  // BackendCapabilities' names that the machine needs besides what its state shows.
  std::vector<std::string> required_capabilities;
  uint32_t boot_count = 0;
  uint64_t taken_unix_nanos = 0;
  std::string host_kernel;  // uname -r
  bool operator==(const VmInfo&) const = default;
};

// vmm/core's PvClock at the moment when the vCPUs were stopped.
struct ClockState {
  uint64_t nanos = 0;
  std::optional<uint64_t> realtime_nanos;
  std::optional<uint64_t> host_tsc;
  bool operator==(const ClockState&) const = default;
};

// A file of the host that a device stands on.
struct DeviceBacking {
  std::string path;
  uint64_t size_bytes = 0;
  bool read_only = false;
  bool operator==(const DeviceBacking&) const = default;
};

// What a device keeps; only it knows what the bytes mean.
struct DeviceState {
  std::string type;      // such as "serial"
  std::string id;        // of this one in its machine
  uint32_t version = 1;  // of the bytes
  std::vector<uint8_t> bytes;
  std::optional<DeviceBacking> backing;
  bool operator==(const DeviceState&) const = default;
};

enum class GicKind { kV2 = 1, kV3 = 2 };

// aarch64's interrupt controller, as its backend wrote it.
struct GicState {
  GicKind kind = GicKind::kV3;
  bool its = false;
  std::vector<uint8_t> bytes;
  bool operator==(const GicState&) const = default;
};

// The memory file holds only `pages`; the others are those of the image `base`.
struct DiffMemory {
  ImageId base = {};
  std::vector<PageWords> pages;  // by region; pages of 4096 bytes
  bool operator==(const DiffMemory&) const = default;
};

// What the memory file holds: the regions' bytes, one after the other.
struct MemoryShape {
  std::vector<GuestRange> regions;
  uint32_t page_bytes = 4096;  // or 2 MiB: of what backs it
  ImageId image_id = {};
  std::optional<DiffMemory> diff;

  uint64_t bytes() const;  // of all regions
  bool operator==(const MemoryShape&) const = default;
};

// The metadata service.
struct MmdsState {
  uint32_t version = 1;  // or 2
  bool imds_compat = false;
  std::string data;  // JSON
  bool operator==(const MmdsState&) const = default;
};

// All of a machine but the bytes of its memory: what a snapshot and a migration carry
// (proto/snapshot/v1). A plain value; thread-compatible. One that comes from a file has passed the
// ranges of microvm_state_proto.h, and nothing else: verify_compatible (compatibility.h) is to
// come.
struct MicrovmState {
  VmInfo vm_info;
  std::vector<VcpuState> vcpu_states;
  std::vector<DeviceState> device_states;
  std::optional<IrqchipState> irqchip_state;  // x86-64
  std::optional<GicState> gic_state;          // aarch64
  std::optional<MmdsState> mmds_state;
  MemoryShape memory;
  ClockState clock;
  // Fields that a newer version of Drover added and this one does not know, encoded, by the path of
  // the message that has them, such as "vcpu_states[0].x86" ("" for this one): they go back to
  // where they came from. Whoever reorders vCPUs, devices or regions clears them.
  std::map<std::string, std::string> unknown_fields;

  bool operator==(const MicrovmState&) const = default;
};

// nullptr where there is none.
const DeviceState* FindDevice(const MicrovmState& state, absl::string_view id);

// Which parts differ, with the first difference of each: "" for equal states. For logs and tests.
std::string Difference(const MicrovmState& a, const MicrovmState& b);
// A few lines for the log: no guest's data.
std::ostream& operator<<(std::ostream& out, const MicrovmState& state);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_MICROVM_STATE_H_
