#ifndef DROVER_SNAPSHOT_CPUID_COMPARE_H_
#define DROVER_SNAPSHOT_CPUID_COMPARE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/core/vcpu_state.h"

namespace drover {

// nullptr where there is none. A subleaf counts only where the entry says so.
const CpuidEntry* FindCpuidEntry(const std::vector<CpuidEntry>& cpuid, uint32_t leaf,
                                 uint32_t subleaf = 0);

// Features that `guest` shows and `host` (KVM_GET_SUPPORTED_CPUID) has not got, by name or as
// "CPUID 0x7.0 EBX bit 16". Not those that KVM makes itself (hypervisor, x2APIC, TSC deadline) and
// that follow the registers (OSXSAVE, OSPKE) or the topology.
std::vector<std::string> MissingCpuFeatures(const std::vector<CpuidEntry>& guest,
                                            const std::vector<CpuidEntry>& host);

// Adds the features that `more` shows to `cpuid`: some hosts' KVM shows a guest more than
// KVM_GET_SUPPORTED_CPUID lists, so that what a host has is the list and what a new vCPU shows.
void AddCpuFeatures(const std::vector<CpuidEntry>& more, std::vector<CpuidEntry>* cpuid);

// CPUID 0xD: the components that XCR0 may hold, and where one is in the XSAVE area's standard
// format (both 0 where there is none).
uint64_t XsaveComponents(const std::vector<CpuidEntry>& cpuid);
struct XsavePlace {
  uint32_t offset = 0, size = 0;
  bool operator==(const XsavePlace&) const = default;
};
XsavePlace PlaceOfComponent(const std::vector<CpuidEntry>& cpuid, uint32_t component);

// CPUID 0x80000008: bits of guest-physical addresses; 36 where it does not say.
uint32_t PhysicalBits(const std::vector<CpuidEntry>& cpuid);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_CPUID_COMPARE_H_
