// The other vCPUs: started by INIT and SIPI on request, then spinning in ring 3 or parked in hlt.
#ifndef E2E_GUEST_CPUS_H_
#define E2E_GUEST_CPUS_H_

#include <stdint.h>

namespace guest {

// vCPUs that the MADT names, this one included; 1 without MADT.
uint32_t CpusSeen();

// vCPUs that run the guest's code, this one included.
uint32_t CpusOnline();

// The local APIC's id of a vCPU that is online, but not the first.
uint32_t CpuApicId(uint32_t index);

// Starts vCPUs until `total` are online (0: all that the MADT names). Without MADT their APIC ids
// are taken to be 1, 2, ... Returns false if one did not come within a second or so.
bool StartCpus(uint32_t total);

// Parks the other vCPUs in hlt, or lets them spin again; waits up to a second for each.
void ParkCpus(bool park);

// One `cpu ...` event line for each other vCPU that is online.
void PrintCpus();

}  // namespace guest

#endif  // E2E_GUEST_CPUS_H_
