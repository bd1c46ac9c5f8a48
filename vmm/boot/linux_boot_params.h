#ifndef DROVER_VMM_BOOT_LINUX_BOOT_PARAMS_H_
#define DROVER_VMM_BOOT_LINUX_BOOT_PARAMS_H_

#include <cstddef>
#include <cstdint>

namespace drover::linux_boot {

// Offsets in struct boot_params, and so in a bzImage file: the setup header lies at the same
// place in both (Linux arch/x86/include/uapi/asm/bootparam.h, Documentation/arch/x86/boot.rst).
inline constexpr size_t kAcpiRsdpAddress = 0x070;     // u64
inline constexpr size_t kExtRamdiskImage = 0x0C0;     // u32, high half
inline constexpr size_t kExtRamdiskSize = 0x0C4;      // u32, high half
inline constexpr size_t kE820Entries = 0x1E8;         // u8
inline constexpr size_t kSetupHeader = 0x1F1;         // the header's first byte: setup_sects
inline constexpr size_t kSetupSects = 0x1F1;          // u8, 512-byte sectors; 0 means 4
inline constexpr size_t kSysSize = 0x1F4;             // u32, 16-byte paragraphs
inline constexpr size_t kVideoMode = 0x1FA;           // u16
inline constexpr size_t kBootFlag = 0x1FE;            // u16, 0xAA55
inline constexpr size_t kJumpOffset = 0x201;          // u8: the header ends at 0x202 + this
inline constexpr size_t kHeaderMagic = 0x202;         // u32, "HdrS"
inline constexpr size_t kVersion = 0x206;             // u16
inline constexpr size_t kTypeOfLoader = 0x210;        // u8
inline constexpr size_t kLoadFlags = 0x211;           // u8
inline constexpr size_t kCode32Start = 0x214;         // u32
inline constexpr size_t kRamdiskImage = 0x218;        // u32
inline constexpr size_t kRamdiskSize = 0x21C;         // u32
inline constexpr size_t kCommandLinePointer = 0x228;  // u32
inline constexpr size_t kInitrdAddressMax = 0x22C;    // u32
inline constexpr size_t kKernelAlignment = 0x230;     // u32
inline constexpr size_t kXLoadFlags = 0x236;          // u16
inline constexpr size_t kCommandLineSize = 0x238;     // u32, without the NUL
inline constexpr size_t kSetupData = 0x250;           // u64
inline constexpr size_t kPreferredAddress = 0x258;    // u64
inline constexpr size_t kInitSize = 0x260;            // u32
inline constexpr size_t kSetupHeaderEnd = 0x290;      // what follows in boot_params is not header
inline constexpr size_t kE820Table = 0x2D0;           // entries of 20 bytes
inline constexpr size_t kE820EntrySize = 20;
inline constexpr size_t kE820Max = 128;
inline constexpr size_t kBootParamsSize = 4096;

inline constexpr uint16_t kBootFlagValue = 0xAA55;
inline constexpr uint32_t kHeaderMagicValue = 0x53726448;  // "HdrS"
inline constexpr uint8_t kLoaderUndefined = 0xFF;          // a loader without an assigned number
inline constexpr uint8_t kLoadedHigh = 1 << 0;
inline constexpr uint16_t kXlfKernel64 = 1 << 0;
inline constexpr uint16_t kVersionWithXLoadFlags = 0x20C;
inline constexpr uint16_t kVersionNow = 0x20F;
inline constexpr uint64_t kEntry64Offset = 0x200;
inline constexpr uint16_t kVideoModeNormal = 0xFFFF;

}  // namespace drover::linux_boot

#endif  // DROVER_VMM_BOOT_LINUX_BOOT_PARAMS_H_
