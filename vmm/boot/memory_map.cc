#include "vmm/boot/memory_map.h"

#include "vmm/core/memory_layout.h"

namespace drover {

std::vector<MemoryMapEntry> MemoryMap(const GuestMemory& memory) {
  using Type = MemoryMapEntry::Type;
  std::vector<MemoryMapEntry> map;
  for (const GuestRegion& region : memory.regions()) {
    if (region.range.start != 0 || region.range.size <= layout::kHighMemory) {
      map.push_back({region.range, Type::kRam});
      continue;
    }
    map.push_back({{0, layout::kEbdaStart}, Type::kRam});
    map.push_back(
        {{layout::kEbdaStart, layout::kHighMemory - layout::kEbdaStart}, Type::kReserved});
    map.push_back({{layout::kHighMemory, region.range.end() - layout::kHighMemory}, Type::kRam});
  }
  return map;
}

}  // namespace drover
