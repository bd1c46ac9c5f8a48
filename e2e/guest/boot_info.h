// What the VMM handed over: memory map, command line, RSDP (xen/arch-x86/hvm/start_info.h).
#ifndef E2E_GUEST_BOOT_INFO_H_
#define E2E_GUEST_BOOT_INFO_H_

#include <stdint.h>

namespace guest {

struct Range {
  uint64_t base;
  uint64_t size;
};

struct BootInfo {
  char command_line[4096];
  Range ram[16];
  uint32_t ram_count;
  uint64_t ram_size;
  uint64_t rsdp;  // 0: none
};

extern BootInfo boot_info;

// Copies all that is needed, so that low memory is free afterwards. `address` is what %ebx held at
// entry.
void ReadBootInfo(uint64_t address);

// True if the whole range is RAM, lies behind the guest's own image if it is above 1 MiB, and is
// mapped.
bool IsFreeRam(uint64_t base, uint64_t size);

// The part of the RAM that the guest may use around or behind `base`: {0, 0} if there is none.
Range FreeRamFrom(uint64_t base);

}  // namespace guest

#endif  // E2E_GUEST_BOOT_INFO_H_
