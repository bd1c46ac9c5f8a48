#include "vmm/boot/elf_loader.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "absl/strings/str_format.h"
#include "vmm/base/status.h"
#include "vmm/boot/bytes.h"

namespace drover {
namespace {

constexpr uint32_t kXenElfNotePhys32Entry = 18;  // xen/include/public/elfnote.h
constexpr size_t kMaxProgramHeaders = 128;       // a kernel has about five
constexpr uint64_t kMaxNoteBytes = 64 << 10;     // what is searched of one PT_NOTE segment

struct ElfHeader {
  bool is_64bit;
  uint64_t entry;
  uint64_t program_headers;  // offset in the file
  size_t count;
};

struct Segment {
  uint32_t type;
  uint64_t offset;
  uint64_t file_size;
  uint64_t address;
  uint64_t memory_size;
  uint64_t align;
  GuestRange range() const { return {address, memory_size}; }
};

absl::Status Truncated(const ImageFile& file, absl::string_view what) {
  return KernelError("KERNEL_TRUNCATED",
                     absl::StrFormat("the kernel file has %u bytes, but its %s lies beyond: give "
                                     "the whole file",
                                     file.size(), what));
}

absl::Status Malformed(absl::string_view what) {
  return KernelError("KERNEL_MALFORMED",
                     absl::StrFormat("the kernel's ELF is malformed: %s; build it again", what));
}

// An ELF32 may also say x86-64: small PVH guests are made so by objcopy.
absl::Status CheckMachine(bool is_64bit, uint16_t machine) {
  if (machine == EM_X86_64 || (!is_64bit && machine == EM_386)) return absl::OkStatus();
  return KernelError("KERNEL_WRONG_ARCHITECTURE",
                     absl::StrFormat("the kernel is an ELF%d for machine %u (183: aarch64), this "
                                     "VM is x86-64 (62): give a kernel built for x86-64",
                                     is_64bit ? 64 : 32, machine));
}

template <typename Ehdr, typename Phdr>
absl::StatusOr<ElfHeader> ParseHeaderAs(const ImageFile& file, bool is_64bit) {
  if (file.head().size() < sizeof(Ehdr)) return Truncated(file, "ELF header");
  const Ehdr header = LoadAt<Ehdr>(file.head(), 0);
  RETURN_IF_ERROR(CheckMachine(is_64bit, header.e_machine));
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN)
    return KernelError(
        "KERNEL_FORMAT_UNKNOWN",
        absl::StrFormat("the kernel is an ELF of type %u: give an executable (2)", header.e_type));
  if (header.e_phentsize != sizeof(Phdr) || header.e_phnum == 0 ||
      header.e_phnum > kMaxProgramHeaders)
    return Malformed(absl::StrFormat("%u program headers of %u bytes; expected 1 to %u of %u",
                                     header.e_phnum, header.e_phentsize, kMaxProgramHeaders,
                                     sizeof(Phdr)));
  if (!file.Holds(header.e_phoff, header.e_phnum * sizeof(Phdr)))
    return Truncated(file, "program header table");
  return ElfHeader{is_64bit, header.e_entry, header.e_phoff, header.e_phnum};
}

absl::StatusOr<ElfHeader> ParseHeader(const ImageFile& file) {
  if (file.head().size() < EI_NIDENT) return Truncated(file, "ELF header");
  if (file.head()[EI_DATA] != ELFDATA2LSB)
    return KernelError("KERNEL_WRONG_ARCHITECTURE",
                       absl::StrFormat("the kernel is an ELF with data encoding %u, x86-64 has "
                                       "little-endian (1): give a kernel built for x86-64",
                                       file.head()[EI_DATA]));
  switch (file.head()[EI_CLASS]) {
    case ELFCLASS64:
      return ParseHeaderAs<Elf64_Ehdr, Elf64_Phdr>(file, true);
    case ELFCLASS32:
      return ParseHeaderAs<Elf32_Ehdr, Elf32_Phdr>(file, false);
    default:
      return Malformed(absl::StrFormat("class %u is neither 1 nor 2", file.head()[EI_CLASS]));
  }
}

template <typename Phdr>
absl::StatusOr<std::vector<Segment>> ReadSegmentsAs(const ImageFile& file,
                                                    const ElfHeader& header) {
  std::vector<Phdr> raw(header.count);
  RETURN_IF_ERROR(file.ReadAt(header.program_headers,
                              {reinterpret_cast<uint8_t*>(raw.data()), raw.size() * sizeof(Phdr)}));
  std::vector<Segment> segments;
  segments.reserve(raw.size());
  for (const Phdr& p : raw)
    segments.push_back({p.p_type, p.p_offset, p.p_filesz, p.p_paddr, p.p_memsz, p.p_align});
  return segments;
}

absl::StatusOr<std::vector<Segment>> ReadSegments(const ImageFile& file, const ElfHeader& header) {
  return header.is_64bit ? ReadSegmentsAs<Elf64_Phdr>(file, header)
                         : ReadSegmentsAs<Elf32_Phdr>(file, header);
}

// The value of a PHYS32_ENTRY note's descriptor, 4 or 8 bytes.
absl::StatusOr<uint64_t> EntryOf(std::span<const uint8_t> descriptor) {
  uint64_t entry;
  if (descriptor.size() == 4)
    entry = LoadAt<uint32_t>(descriptor, 0);
  else if (descriptor.size() == 8)
    entry = LoadAt<uint64_t>(descriptor, 0);
  else
    return Malformed(absl::StrFormat("its PVH note has %u bytes, not 4 or 8", descriptor.size()));
  if (entry > UINT32_MAX)
    return Malformed(absl::StrFormat("its PVH entry %#x is not 32-bit", entry));
  return entry;
}

// The PVH entry in a note segment's bytes, if it is there. A note that does not fit its segment
// ends the search, as in the kernel's own readers.
absl::StatusOr<std::optional<uint64_t>> FindPvhEntry(std::span<const uint8_t> notes,
                                                     uint64_t align) {
  const auto round_up = [align](uint64_t n) { return (n + align - 1) & ~(align - 1); };
  uint64_t at = 0;
  while (at + sizeof(Elf64_Nhdr) <= notes.size()) {
    const Elf64_Nhdr note = LoadAt<Elf64_Nhdr>(notes, at);
    const uint64_t name = at + sizeof(note);
    const uint64_t descriptor = round_up(name + note.n_namesz);
    if (descriptor + note.n_descsz > notes.size()) break;
    if (note.n_type == kXenElfNotePhys32Entry && note.n_namesz == 4 &&
        memcmp(notes.data() + name, "Xen", 4) == 0) {
      ASSIGN_OR_RETURN(const uint64_t entry, EntryOf(notes.subspan(descriptor, note.n_descsz)));
      return std::optional<uint64_t>(entry);
    }
    at = round_up(descriptor + note.n_descsz);
  }
  return std::optional<uint64_t>();
}

absl::StatusOr<std::optional<uint64_t>> PvhEntry(const ImageFile& file,
                                                 const std::vector<Segment>& segments) {
  for (const Segment& segment : segments) {
    if (segment.type != PT_NOTE) continue;
    if (!file.Holds(segment.offset, segment.file_size)) return Truncated(file, "note segment");
    std::vector<uint8_t> notes(std::min(segment.file_size, kMaxNoteBytes));
    RETURN_IF_ERROR(file.ReadAt(segment.offset, notes));
    ASSIGN_OR_RETURN(const std::optional<uint64_t> entry,
                     FindPvhEntry(notes, segment.align == 8 ? 8 : 4));
    if (entry) return entry;
  }
  return std::optional<uint64_t>();
}

absl::Status CheckSegment(const ImageFile& file, const GuestMemory& memory,
                          const Segment& segment) {
  if (segment.file_size > segment.memory_size)
    return Malformed(absl::StrFormat("a segment has %u bytes in the file but %u in memory",
                                     segment.file_size, segment.memory_size));
  if (!file.Holds(segment.offset, segment.file_size)) return Truncated(file, "segment");
  return CheckKernelRange(memory, segment.range(), "segment");
}

// The segments to load, by address, checked each and against each other.
absl::StatusOr<std::vector<Segment>> LoadableSegments(const ImageFile& file,
                                                      const GuestMemory& memory,
                                                      const std::vector<Segment>& segments) {
  std::vector<Segment> loadable;
  for (const Segment& segment : segments) {
    if (segment.type != PT_LOAD || segment.memory_size == 0) continue;
    RETURN_IF_ERROR(CheckSegment(file, memory, segment));
    loadable.push_back(segment);
  }
  if (loadable.empty()) return Malformed("it has no segment to load");
  std::sort(loadable.begin(), loadable.end(),
            [](const Segment& a, const Segment& b) { return a.address < b.address; });
  for (size_t i = 1; i < loadable.size(); ++i)
    if (loadable[i].range().Overlaps(loadable[i - 1].range()))
      return Malformed(absl::StrFormat("two segments overlap at %#x", loadable[i].address));
  return loadable;
}

absl::Status CheckEntry(const std::vector<Segment>& loadable, uint64_t entry) {
  for (const Segment& segment : loadable)
    if (segment.range().Contains(entry)) return absl::OkStatus();
  return Malformed(absl::StrFormat("its entry %#x is in no segment", entry));
}

}  // namespace

bool IsElf(const ImageFile& file) {
  return file.head().size() >= SELFMAG && memcmp(file.head().data(), ELFMAG, SELFMAG) == 0;
}

absl::StatusOr<KernelImage> LoadElf(const ImageFile& file, GuestMemory& memory) {
  ASSIGN_OR_RETURN(const ElfHeader header, ParseHeader(file));
  ASSIGN_OR_RETURN(const std::vector<Segment> segments, ReadSegments(file, header));
  ASSIGN_OR_RETURN(const std::optional<uint64_t> pvh_entry, PvhEntry(file, segments));
  if (!pvh_entry && !header.is_64bit)
    return KernelError("KERNEL_FORMAT_UNKNOWN",
                       "the kernel is a 32-bit ELF without a PVH entry note (Xen, type 18): give "
                       "an x86-64 kernel, or one built with CONFIG_PVH");
  ASSIGN_OR_RETURN(const std::vector<Segment> loadable, LoadableSegments(file, memory, segments));
  KernelImage image;
  image.protocol = pvh_entry ? BootProtocol::kPvh : BootProtocol::kLinux64;
  image.entry = pvh_entry.value_or(header.entry);
  RETURN_IF_ERROR(CheckEntry(loadable, image.entry));
  const uint64_t start = loadable.front().address;
  image.footprint = {start, loadable.back().range().end() - start};
  for (const Segment& segment : loadable)
    RETURN_IF_ERROR(file.ReadInto(memory, segment.address, segment.offset, segment.file_size));
  return image;
}

}  // namespace drover
