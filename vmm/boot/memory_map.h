#ifndef DROVER_VMM_BOOT_MEMORY_MAP_H_
#define DROVER_VMM_BOOT_MEMORY_MAP_H_

#include <cstdint>
#include <vector>

#include "vmm/core/guest_memory.h"

namespace drover {

// One entry of the map that the guest is told, numbered as in E820 (ACPI 6.4 §15).
struct MemoryMapEntry {
  enum class Type : uint32_t { kRam = 1, kReserved = 2 };
  GuestRange range;
  Type type;
  bool operator==(const MemoryMapEntry&) const = default;
};

// All RAM, with what lies from layout::kEbdaStart to 1 MiB reserved (the ACPI tables are there).
std::vector<MemoryMapEntry> MemoryMap(const GuestMemory& memory);

}  // namespace drover

#endif  // DROVER_VMM_BOOT_MEMORY_MAP_H_
