#include "e2e/guest/boot_info.h"

#include "e2e/guest/selectors.h"

extern "C" char image_end[];

namespace guest {

BootInfo boot_info;

namespace {

constexpr uint32_t kMagic = 0x336ec578;
constexpr uint32_t kTypeRam = 1;
constexpr uint64_t kMapped = static_cast<uint64_t>(kMaxGigabytes) << 30;

struct StartInfo {
  uint32_t magic, version, flags, module_count;
  uint64_t modules, command_line, rsdp;
  uint64_t memory_map;  // from version 1
  uint32_t memory_map_entries;
};

struct MemoryMapEntry {
  uint64_t base, size;
  uint32_t type, reserved;
};

void CopyCommandLine(const char* from) {
  uint32_t i = 0;
  for (; from && from[i] && i + 1 < sizeof(boot_info.command_line); i++) {
    boot_info.command_line[i] = from[i];
  }
  boot_info.command_line[i] = 0;
}

}  // namespace

void ReadBootInfo(uint64_t address) {
  const auto* info = reinterpret_cast<const StartInfo*>(address);
  if (info->magic != kMagic) return;
  CopyCommandLine(reinterpret_cast<const char*>(info->command_line));
  boot_info.rsdp = info->rsdp;
  if (info->version < 1) return;
  const auto* entries = reinterpret_cast<const MemoryMapEntry*>(info->memory_map);
  for (uint32_t i = 0; i < info->memory_map_entries && boot_info.ram_count < 16; i++) {
    if (entries[i].type != kTypeRam) continue;
    boot_info.ram[boot_info.ram_count++] = {entries[i].base, entries[i].size};
    boot_info.ram_size += entries[i].size;
  }
}

Range FreeRamFrom(uint64_t base) {
  const uint64_t first = (reinterpret_cast<uint64_t>(image_end) + 4095) & ~4095ull;
  if (base < first) base = first;
  for (uint32_t i = 0; i < boot_info.ram_count; i++) {
    uint64_t end = boot_info.ram[i].base + boot_info.ram[i].size;
    if (end > kMapped) end = kMapped;
    const uint64_t start = base > boot_info.ram[i].base ? base : boot_info.ram[i].base;
    if (start >= first && start < end) return {start, end - start};
  }
  return {0, 0};
}

bool IsFreeRam(uint64_t base, uint64_t size) {
  const Range range = FreeRamFrom(base);
  return range.base == base && size <= range.size;
}

}  // namespace guest
