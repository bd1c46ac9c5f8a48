#include "e2e/guest/address_space.h"

#include <stdint.h>

#include "e2e/guest/boot_info.h"
#include "e2e/guest/selectors.h"

extern "C" {
extern char boot_stack_top[];
extern uint8_t boot_task[];
extern uint64_t page_directory_pointers[], page_directories[];
}

namespace guest {
namespace {

constexpr uint64_t kPresentWritableUser = 7;
constexpr uint64_t kLarge = 0x80;
constexpr uint64_t kUncached = 0x10;

void MapGigabyte(uint64_t gigabyte) {
  uint64_t* directory = page_directories + 512 * gigabyte;
  page_directory_pointers[gigabyte] = reinterpret_cast<uint64_t>(directory) | kPresentWritableUser;
  for (uint64_t i = 0; i < 512; i++) {
    const uint64_t address = (gigabyte << 30) + (i << 21);
    const bool device = address >= 0xfe000000 && address < 1ull << 32;
    directory[i] = address | kLarge | kPresentWritableUser | (device ? kUncached : 0);
  }
}

}  // namespace

void FillBootTask() {
  const uint64_t stack = reinterpret_cast<uint64_t>(boot_stack_top);
  __builtin_memcpy(boot_task + 4, &stack, sizeof(stack));
  boot_task[102] = 0x68;
  boot_task[kTaskLimit] = 0xff;
}

void MapMemory() {
  uint64_t end = 4;
  for (uint32_t i = 0; i < boot_info.ram_count; i++) {
    const uint64_t ram_end = (boot_info.ram[i].base + boot_info.ram[i].size + (1 << 30) - 1) >> 30;
    if (ram_end > end) end = ram_end;
  }
  for (uint64_t i = 0; i < end && i < kMaxGigabytes; i++) MapGigabyte(i);
}

}  // namespace guest
