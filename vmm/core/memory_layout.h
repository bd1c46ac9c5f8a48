#ifndef DROVER_VMM_CORE_MEMORY_LAYOUT_H_
#define DROVER_VMM_CORE_MEMORY_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "vmm/core/guest_memory.h"

namespace drover::layout {

// The x86-64 machine's guest-physical map.
inline constexpr uint64_t kMmioGapStart =
    0xC0000000;  // 3 GiB: devices, local APIC, I/O APIC, identity map
inline constexpr uint64_t kMmioGapEnd = 0x100000000;  // RAM goes on at 4 GiB
inline constexpr uint64_t kIoApicAddress = 0xFEC00000;
inline constexpr uint64_t kLocalApicAddress = 0xFEE00000;
inline constexpr uint64_t kIdentityMapAddress = 0xFFFBC000;  // KVM_SET_IDENTITY_MAP_ADDR, one page
inline constexpr uint64_t kTssAddress = 0xFFFBD000;          // KVM_SET_TSS_ADDR, three pages

// What the boot loaders put below 1 MiB. The range from kEbdaStart to 1 MiB is reserved in the E820
// map.
inline constexpr uint64_t kBootGdt = 0x500;
inline constexpr uint64_t kPvhStartInfo = 0x6000;
inline constexpr uint64_t kBootParams = 0x7000;  // "zero page"
inline constexpr uint64_t kBootStack = 0x8FF0;
inline constexpr uint64_t kBootPageTables = 0x9000;  // PML4, PDPT, PDs
inline constexpr uint64_t kCommandLine = 0x20000;
inline constexpr uint32_t kCommandLineMax = 2048;  // with its NUL
inline constexpr uint64_t kEbdaStart = 0x9FC00;
inline constexpr uint64_t kRsdpAddress = 0xE0000;  // ACPI tables up to kHighMemory
inline constexpr uint64_t kHighMemory = 0x100000;

// Interrupt lines (global system interrupts) and ports.
inline constexpr uint32_t kSerialIrq = 4;
inline constexpr uint32_t kRtcIrq = 8;
inline constexpr uint32_t kSciIrq = 9;
inline constexpr uint16_t kSerialPort = 0x3F8;
inline constexpr uint16_t kI8042Port = 0x60;  // data 0x60, command 0x64
inline constexpr uint16_t kRtcPort = 0x70;
inline constexpr uint16_t kPm1EventPort = 0x600;    // PM1a_EVT_BLK, 4 bytes: status, enable
inline constexpr uint16_t kPm1ControlPort = 0x604;  // PM1a_CNT_BLK, 2 bytes
inline constexpr uint16_t kSleepTypeS5 = 5;         // SLP_TYP of \_S5
inline constexpr uint16_t kResetPort = 0x64;        // FADT RESET_REG (i8042), value 0xFE

// The RAM of a machine with `memory_bytes`, split around the gap below 4 GiB. INVALID_ARGUMENT
// unless page-aligned, at least 2 MiB, and below `physical_limit` (the first address the guest
// cannot have) with the gap counted.
absl::StatusOr<std::vector<GuestRange>> RamRanges(uint64_t memory_bytes, uint64_t physical_limit);

}  // namespace drover::layout

#endif  // DROVER_VMM_CORE_MEMORY_LAYOUT_H_
