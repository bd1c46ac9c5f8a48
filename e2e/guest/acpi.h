// What the test guest reads from ACPI tables: vCPUs (MADT) and how to power off and reset (FADT,
// \_S5).
#ifndef E2E_GUEST_ACPI_H_
#define E2E_GUEST_ACPI_H_

#include <stdint.h>

namespace guest {

// APIC ids below 255 of the vCPUs that the MADT says are enabled, in its order; returns how many, 0
// without MADT.
uint32_t FindCpus(uint8_t* apic_ids, uint32_t capacity);

// Tries, in turn, all that the FADT names. Both return if nothing worked.
void AcpiPowerOff();
void AcpiReset();

}  // namespace guest

#endif  // E2E_GUEST_ACPI_H_
