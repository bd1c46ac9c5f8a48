#ifndef DROVER_VMM_BOOT_ACPI_H_
#define DROVER_VMM_BOOT_ACPI_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "vmm/core/guest_memory.h"

namespace drover {

inline constexpr uint32_t kMaxAcpiVcpus = 254;  // 8-bit APIC ids 0 to 253

// The ACPI tables (6.4) of a machine with `vcpus` (1 to kMaxAcpiVcpus), to lie at `address`
// (64-byte aligned, below 4 GiB): RSDP first, then FACS, DSDT, FADT, MADT and XSDT. They describe
// fixed hardware: PM1a blocks, SCI, power button, reset by the i8042; COM1 and the clock in the
// DSDT.
std::vector<uint8_t> BuildAcpiTables(uint32_t vcpus, uint64_t address);

// Writes them to layout::kRsdpAddress and returns that, the RSDP's address.
absl::StatusOr<uint64_t> WriteAcpiTables(uint32_t vcpus, GuestMemory& memory);

}  // namespace drover

#endif  // DROVER_VMM_BOOT_ACPI_H_
