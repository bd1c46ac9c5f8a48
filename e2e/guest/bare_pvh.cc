#include "e2e/guest/bare_pvh.h"

#include <elf.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

namespace drover {
namespace {

constexpr uint64_t kStartInfo = 0x6000;
constexpr uint64_t kMemoryMap = 0x7000;
constexpr uint64_t kCommandLine = 0x20000;
constexpr uint64_t kLowEnd = 0x9fc00;
constexpr uint64_t kHighStart = 0x100000;
constexpr uint32_t kPhys32Entry = 18;

// xen/arch-x86/hvm/start_info.h, version 1
struct StartInfo {
  uint32_t magic = 0x336ec578, version = 1, flags = 0, module_count = 0;
  uint64_t modules = 0, command_line = kCommandLine, rsdp = 0, memory_map = kMemoryMap;
  uint32_t memory_map_entries = 2, reserved = 0;
};
static_assert(sizeof(StartInfo) == 56);

struct MemoryMapEntry {
  uint64_t base, size;
  uint32_t type = 1, reserved = 0;
};

template <typename T>
bool ReadAt(const std::string& image, uint64_t offset, T* value) {
  if (offset > image.size() || image.size() - offset < sizeof(T)) return false;
  memcpy(value, image.data() + offset, sizeof(T));
  return true;
}

std::vector<Elf64_Phdr> ProgramHeaders(const std::string& image) {
  std::vector<Elf64_Phdr> headers;
  Elf64_Ehdr elf;
  if (!ReadAt(image, 0, &elf) || memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0) return headers;
  if (elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_machine != EM_X86_64) return headers;
  Elf64_Phdr header;
  for (int i = 0; i < elf.e_phnum; i++) {
    if (ReadAt(image, elf.e_phoff + i * sizeof(header), &header)) headers.push_back(header);
  }
  return headers;
}

uint64_t Align4(uint64_t value) { return (value + 3) & ~uint64_t{3}; }

uint64_t EntryInNotes(const std::string& image, uint64_t offset, uint64_t end) {
  Elf64_Nhdr note;
  while (offset < end && ReadAt(image, offset, &note)) {
    const uint64_t descriptor = offset + sizeof(note) + Align4(note.n_namesz);
    uint64_t entry = 0;
    if (note.n_type == kPhys32Entry && ReadAt(image, descriptor, &entry)) return entry;
    offset = descriptor + Align4(note.n_descsz);
  }
  return 0;
}

bool LoadSegments(const std::string& image, uint8_t* memory, size_t size) {
  for (const Elf64_Phdr& header : ProgramHeaders(image)) {
    if (header.p_type != PT_LOAD) continue;
    if (header.p_offset + header.p_filesz > image.size()) return false;
    if (header.p_paddr < kHighStart || header.p_paddr + header.p_memsz > size) return false;
    memcpy(memory + header.p_paddr, image.data() + header.p_offset, header.p_filesz);
  }
  return true;
}

void WriteStartInfo(const std::string& command_line, uint8_t* memory, size_t size) {
  const StartInfo info;
  const MemoryMapEntry map[] = {{0, kLowEnd}, {kHighStart, size - kHighStart}};
  memcpy(memory + kStartInfo, &info, sizeof(info));
  memcpy(memory + kMemoryMap, map, sizeof(map));
  memcpy(memory + kCommandLine, command_line.c_str(), command_line.size() + 1);
}

}  // namespace

uint64_t FindPvhEntry(const std::string& image) {
  for (const Elf64_Phdr& header : ProgramHeaders(image)) {
    if (header.p_type != PT_NOTE) continue;
    const uint64_t entry = EntryInNotes(image, header.p_offset, header.p_offset + header.p_filesz);
    if (entry != 0) return entry;
  }
  return 0;
}

bool LoadPvh(const std::string& path, const std::string& command_line, uint8_t* memory, size_t size,
             PvhBoot* boot, std::string* error) {
  std::ifstream file(path, std::ios::binary);
  const std::string image((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  *boot = {FindPvhEntry(image), kStartInfo};
  if (boot->entry == 0) {
    *error = path + " cannot be read, or is no ELF file for x86-64 with a PVH entry note";
  } else if (!LoadSegments(image, memory, size)) {
    *error = path + " is cut off, or does not fit into memory from 1 MiB on";
  } else if (command_line.size() > 4095) {
    *error = "the command line is longer than 4095 bytes";
  } else {
    WriteStartInfo(command_line, memory, size);
    return true;
  }
  return false;
}

}  // namespace drover
