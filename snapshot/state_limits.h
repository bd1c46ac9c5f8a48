#ifndef DROVER_SNAPSHOT_STATE_LIMITS_H_
#define DROVER_SNAPSHOT_STATE_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace drover::state_limits {

// How much of each there may be in a MicrovmState's encoding (proto/snapshot/v1).
inline constexpr uint32_t kVcpus = 1024;
inline constexpr uint32_t kDevices = 1024;
inline constexpr uint32_t kRegions = 64;
inline constexpr uint32_t kCapabilities = 64;
inline constexpr uint32_t kCpuidEntries = 256;  // KVM_MAX_CPUID_ENTRIES
inline constexpr uint32_t kXcrs = 16;           // KVM_MAX_XCRS
inline constexpr uint32_t kMsrs = 1024;
inline constexpr uint32_t kPitChannels = 3;

// Bytes.
inline constexpr size_t kXsaveLeast = 4096, kXsaveMost = 1 << 20;
inline constexpr size_t kDeviceBytes = 16 << 20;
inline constexpr size_t kGicBytes = 4 << 20;
inline constexpr size_t kMmdsBytes = 1 << 20;
inline constexpr size_t kText = 4096;  // paths, the command line
inline constexpr size_t kIdText = 63;
inline constexpr size_t kTypeText = 32;
inline constexpr size_t kKernelText = 128;

}  // namespace drover::state_limits

#endif  // DROVER_SNAPSHOT_STATE_LIMITS_H_
