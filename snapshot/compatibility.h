#ifndef DROVER_SNAPSHOT_COMPATIBILITY_H_
#define DROVER_SNAPSHOT_COMPATIBILITY_H_

#include <cstdint>
#include <map>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "snapshot/architecture.h"
#include "snapshot/microvm_state.h"
#include "vmm/core/capabilities.h"
#include "vmm/core/vcpu_state.h"

namespace drover {

// The versions of a kind of device's state that this program reads.
struct DeviceSupport {
  uint32_t least = 1, most = 1;
};

// A file that the restore was given for a device.
struct ProvidedBacking {
  uint64_t size_bytes = 0;
  bool read_only = false;
};

struct GicShape {
  GicKind kind = GicKind::kV3;
  bool its = false;
};

// The host as a machine's state meets it. A plain value that the caller fills.
struct HostProfile {
  Architecture architecture = kHostArchitecture;
  BackendCapabilities capabilities;
  // KVM_GET_SUPPORTED_CPUID, and what a new vCPU shows besides (AddCpuFeatures).
  std::vector<CpuidEntry> supported_cpuid;
  std::vector<uint32_t> msrs;                       // that a vCPU's state is kept in; ascending
  uint32_t tsc_khz = 0;                             // what a vCPU's TSC has without scaling
  bool tsc_offset = false;                          // KVM_VCPU_TSC_OFFSET
  std::optional<GicShape> gic;                      // aarch64
  std::map<std::string, DeviceSupport> devices;     // by type
  std::set<std::string> always_present;             // types that every machine has
  std::map<std::string, ProvidedBacking> backings;  // by the device's id
};

// One way in which a state does not fit a host.
struct Mismatch {
  std::string reason;  // UPPER_SNAKE_CASE, stable: see verify_compatible
  std::string field;   // of the state, such as "vcpu_states[0].msrs"
  std::string what;    // it is, for a person
  std::string file;    // what the file has
  std::string host;    // what the host has; of STATE_INVARIANT, what would be right
  std::string remedy;  // what could be done
  uint32_t vcpus = 0;  // how many vCPUs have it, where it is one of vCPUs
  bool operator==(const Mismatch&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Mismatch& mismatch);

// Every mismatch between a state that ParseMicrovmState took and a host; nothing may be made of the
// state while there is one. Nothing is changed. The same mismatch of many vCPUs is listed once.
// Reasons:
//   ARCHITECTURE            the machine is of another
//   STATE_INVARIANT         no Drover writes such a state: counts that contradict each other, vCPUs
//                           that differ where they cannot, registers that no processor holds
//   VCPU_COUNT              more than the host allows
//   CPU_VENDOR, CPUID, PHYSICAL_BITS, MSR, XSAVE_SIZE, XSAVE_COMPONENTS, XSAVE_LAYOUT,
//   TSC_FREQUENCY, TSC_OFFSET, NESTED_STATE    of the processor
//   CAPABILITY              one of BackendCapabilities that the machine needs
//   MEMORY_SHAPE            regions that the host or this machine does not have
//   IRQCHIP, GIC            another interrupt controller
//   DEVICE_UNKNOWN, DEVICE_VERSION, DEVICE_MISSING, BACKING_MISSING, BACKING_MISMATCH
std::vector<Mismatch> verify_compatible(const MicrovmState& state, const HostProfile& host);

// OK without mismatches; FAILED_PRECONDITION (SNAPSHOT_INCOMPATIBLE) with all of them, one a line,
// and the field of the first.
absl::Status CompatibilityStatus(const std::vector<Mismatch>& mismatches);

// The part of it that needs no host: STATE_INVARIANT alone.
std::vector<Mismatch> CheckInvariants(const MicrovmState& state);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_COMPATIBILITY_H_
