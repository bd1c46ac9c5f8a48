#include "vmm/boot/boot_data.h"

#include <algorithm>
#include <array>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/boot/bytes.h"
#include "vmm/boot/linux_boot_params.h"
#include "vmm/boot/memory_map.h"
#include "vmm/core/memory_layout.h"

namespace drover {
namespace {

// Segment descriptors (Intel SDM vol. 3 §3.4.5): flat, present, ring 0, accessed.
constexpr uint64_t kCode32 = 0x00CF9B000000FFFF;
constexpr uint64_t kCode64 = 0x00AF9B000000FFFF;
constexpr uint64_t kData = 0x00CF93000000FFFF;
constexpr uint64_t kTss = 0x00008B0000000067;  // base 0, busy; in long mode two entries long

constexpr uint64_t kPageSize = 4096;
constexpr size_t kEntriesPerTable = 512;
constexpr size_t kDirectories = 4;  // 1 GiB each
constexpr uint64_t kLargePageSize = 2 << 20;
constexpr uint64_t kPresentWritable = 0x3;
constexpr uint64_t kLargePage = 0x80;

struct PvhStartInfo {
  uint32_t magic = 0x336EC578;
  uint32_t version = 1;
  uint32_t flags = 0;
  uint32_t module_count = 0;
  uint64_t modules = 0;
  uint64_t command_line = 0;
  uint64_t rsdp = 0;
  uint64_t memory_map = 0;
  uint32_t memory_map_entries = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(PvhStartInfo) == 56);

struct PvhModule {
  uint64_t address = 0;
  uint64_t size = 0;
  uint64_t command_line = 0;
  uint64_t reserved = 0;
};
static_assert(sizeof(PvhModule) == 32);

struct PvhMemoryMapEntry {
  uint64_t address;
  uint64_t size;
  uint32_t type;
  uint32_t reserved;
};
static_assert(sizeof(PvhMemoryMapEntry) == 24);

constexpr size_t kPvhModuleOffset = 64;
constexpr size_t kPvhMemoryMapOffset = 128;

void StoreHighAndLow(std::span<uint8_t> params, size_t low, size_t high, uint64_t value) {
  StoreAt(params, low, static_cast<uint32_t>(value));
  StoreAt(params, high, static_cast<uint32_t>(value >> 32));
}

void StoreE820(std::span<uint8_t> params, const std::vector<MemoryMapEntry>& map) {
  const size_t count = std::min(map.size(), linux_boot::kE820Max);
  StoreAt(params, linux_boot::kE820Entries, static_cast<uint8_t>(count));
  for (size_t i = 0; i < count; ++i) {
    const size_t at = linux_boot::kE820Table + i * linux_boot::kE820EntrySize;
    StoreAt(params, at, map[i].range.start);
    StoreAt(params, at + 8, map[i].range.size);
    StoreAt(params, at + 16, static_cast<uint32_t>(map[i].type));
  }
}

// The setup header: the image's own, or what a vmlinux (which has none) gets.
void StoreSetupHeader(std::span<uint8_t> params, const KernelImage& image) {
  if (image.setup_header.empty()) {
    StoreAt(params, linux_boot::kBootFlag, linux_boot::kBootFlagValue);
    StoreAt(params, linux_boot::kHeaderMagic, linux_boot::kHeaderMagicValue);
    StoreAt(params, linux_boot::kVersion, linux_boot::kVersionNow);
    StoreAt(params, linux_boot::kLoadFlags, linux_boot::kLoadedHigh);
    StoreAt(params, linux_boot::kCommandLineSize, layout::kCommandLineMax - 1);
    return;
  }
  std::copy(image.setup_header.begin(), image.setup_header.end(),
            params.begin() + linux_boot::kSetupHeader);
  StoreAt(params, linux_boot::kCode32Start, static_cast<uint32_t>(image.footprint.start));
  StoreAt(params, linux_boot::kSetupData, uint64_t{0});
}

}  // namespace

absl::Status WriteGdt(BootProtocol protocol, GuestMemory& memory, BootRegisters* registers) {
  const uint64_t code = protocol == BootProtocol::kPvh ? kCode32 : kCode64;
  const std::array<uint64_t, 6> gdt = {0, 0, code, kData, kTss, 0};
  registers->gdt_base = layout::kBootGdt;
  registers->gdt_limit = sizeof(gdt) - 1;
  return memory.Write(layout::kBootGdt,
                      {reinterpret_cast<const uint8_t*>(gdt.data()), sizeof(gdt)});
}

absl::Status WriteIdentityPageTables(GuestMemory& memory, BootRegisters* registers) {
  const uint64_t pointers = layout::kBootPageTables + kPageSize;
  const uint64_t directories = pointers + kPageSize;
  ASSIGN_OR_RETURN(const std::span<uint8_t> tables,
                   memory.HostRange(layout::kBootPageTables, (2 + kDirectories) * kPageSize));
  StoreAt(tables, 0, pointers | kPresentWritable);
  for (size_t i = 0; i < kDirectories; ++i)
    StoreAt(tables, kPageSize + i * 8, (directories + i * kPageSize) | kPresentWritable);
  for (size_t i = 0; i < kDirectories * kEntriesPerTable; ++i)
    StoreAt(tables, 2 * kPageSize + i * 8, i * kLargePageSize | kPresentWritable | kLargePage);
  memory.MarkDirty(layout::kBootPageTables, tables.size());
  registers->long_mode = true;
  registers->cr3 = layout::kBootPageTables;
  return absl::OkStatus();
}

absl::Status WriteCommandLine(const std::string& command_line, GuestMemory& memory) {
  DROVER_CHECK(command_line.size() < layout::kCommandLineMax);
  // The string's own NUL goes with it.
  return memory.Write(layout::kCommandLine, {reinterpret_cast<const uint8_t*>(command_line.c_str()),
                                             command_line.size() + 1});
}

absl::Status WritePvhStartInfo(const BootInformation& information, GuestMemory& memory,
                               BootRegisters* registers) {
  const std::vector<MemoryMapEntry> map = MemoryMap(memory);
  std::vector<uint8_t> bytes(kPvhMemoryMapOffset + map.size() * sizeof(PvhMemoryMapEntry));
  PvhStartInfo info;
  info.command_line = layout::kCommandLine;
  info.rsdp = information.rsdp_address;
  info.memory_map = layout::kPvhStartInfo + kPvhMemoryMapOffset;
  info.memory_map_entries = static_cast<uint32_t>(map.size());
  if (information.initrd.size != 0) {
    info.module_count = 1;
    info.modules = layout::kPvhStartInfo + kPvhModuleOffset;
    StoreAt(bytes, kPvhModuleOffset,
            PvhModule{.address = information.initrd.start, .size = information.initrd.size});
  }
  StoreAt(bytes, 0, info);
  for (size_t i = 0; i < map.size(); ++i)
    StoreAt(bytes, kPvhMemoryMapOffset + i * sizeof(PvhMemoryMapEntry),
            PvhMemoryMapEntry{map[i].range.start, map[i].range.size,
                              static_cast<uint32_t>(map[i].type), 0});
  registers->rbx = layout::kPvhStartInfo;
  return memory.Write(layout::kPvhStartInfo, bytes);
}

absl::Status WriteLinuxBootParams(const KernelImage& image, const BootInformation& information,
                                  GuestMemory& memory, BootRegisters* registers) {
  std::vector<uint8_t> params(linux_boot::kBootParamsSize);
  StoreSetupHeader(params, image);
  StoreE820(params, MemoryMap(memory));
  StoreAt(params, linux_boot::kAcpiRsdpAddress, information.rsdp_address);
  StoreAt(params, linux_boot::kVideoMode, linux_boot::kVideoModeNormal);
  StoreAt(params, linux_boot::kTypeOfLoader, linux_boot::kLoaderUndefined);
  StoreAt(params, linux_boot::kCommandLinePointer, static_cast<uint32_t>(layout::kCommandLine));
  StoreHighAndLow(params, linux_boot::kRamdiskImage, linux_boot::kExtRamdiskImage,
                  information.initrd.start);
  StoreHighAndLow(params, linux_boot::kRamdiskSize, linux_boot::kExtRamdiskSize,
                  information.initrd.size);
  registers->rsi = layout::kBootParams;
  return memory.Write(layout::kBootParams, params);
}

}  // namespace drover
