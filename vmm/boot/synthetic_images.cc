#include "vmm/boot/synthetic_images.h"

#include <elf.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/string_view.h"
#include "vmm/base/status.h"
#include "vmm/boot/bytes.h"
#include "vmm/boot/linux_boot_params.h"

namespace drover {
namespace {

constexpr uint32_t kPhys32Entry = 18;

template <typename T>
void AppendValue(std::vector<uint8_t>& out, const T& value) {
  Append(out, absl::string_view(reinterpret_cast<const char*>(&value), sizeof(value)));
}

std::vector<uint8_t> PvhNote(uint32_t entry, uint32_t align) {
  std::vector<uint8_t> note;
  AppendValue(note, Elf64_Nhdr{.n_namesz = 4, .n_descsz = 4, .n_type = kPhys32Entry});
  Append(note, absl::string_view("Xen\0", 4));
  AppendValue(note, entry);
  note.resize((note.size() + align - 1) / align * align);
  return note;
}

template <typename Ehdr, typename Phdr>
Ehdr Header(const SyntheticElf& elf, uint8_t elf_class, size_t count) {
  Ehdr header = {};
  memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = elf_class;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = elf.type;
  header.e_machine = elf.machine;
  header.e_version = EV_CURRENT;
  header.e_entry = elf.entry;
  header.e_phoff = sizeof(Ehdr);
  header.e_ehsize = sizeof(Ehdr);
  header.e_phentsize = sizeof(Phdr);
  header.e_phnum = static_cast<uint16_t>(count);
  return header;
}

template <typename Ehdr, typename Phdr>
std::vector<uint8_t> MakeElf(const SyntheticElf& elf, uint8_t elf_class) {
  const size_t count = elf.segments.size() + (elf.pvh_entry ? 1 : 0);
  std::vector<uint8_t> out, data;
  const size_t data_offset = sizeof(Ehdr) + count * sizeof(Phdr);
  AppendValue(out, Header<Ehdr, Phdr>(elf, elf_class, count));
  const auto add = [&](uint32_t type, uint64_t address, const std::vector<uint8_t>& bytes,
                       uint64_t memory_size, uint32_t align) {
    Phdr p = {};
    p.p_type = type;
    p.p_offset = data_offset + data.size();
    p.p_paddr = address;
    p.p_filesz = bytes.size();
    p.p_memsz = memory_size;
    p.p_align = align;
    AppendValue(out, p);
    Append(data, bytes);
  };
  if (elf.pvh_entry) {
    const std::vector<uint8_t> note = PvhNote(*elf.pvh_entry, elf.note_align);
    add(PT_NOTE, 0, note, note.size(), elf.note_align);
  }
  for (const SyntheticSegment& segment : elf.segments)
    add(PT_LOAD, segment.address, segment.bytes, segment.memory_size, 1);
  Append(out, data);
  return out;
}

}  // namespace

std::vector<uint8_t> MakeElf64(const SyntheticElf& elf) {
  return MakeElf<Elf64_Ehdr, Elf64_Phdr>(elf, ELFCLASS64);
}

std::vector<uint8_t> MakeElf32(const SyntheticElf& elf) {
  return MakeElf<Elf32_Ehdr, Elf32_Phdr>(elf, ELFCLASS32);
}

std::vector<uint8_t> MakeBzImage(const SyntheticBzImage& image) {
  using namespace linux_boot;  // NOLINT(build/namespaces)
  std::vector<uint8_t> out((image.setup_sects + 1) * 512);
  out[kSetupSects] = image.setup_sects;
  StoreAt(out, kSysSize, static_cast<uint32_t>(image.kernel.size() / 16));
  StoreAt(out, kBootFlag, kBootFlagValue);
  out[kJumpOffset] = 0x6A;
  StoreAt(out, kHeaderMagic, kHeaderMagicValue);
  StoreAt(out, kVersion, image.version);
  out[kLoadFlags] = image.loadflags;
  StoreAt(out, kInitrdAddressMax, image.initrd_max);
  StoreAt(out, kKernelAlignment, image.kernel_alignment);
  StoreAt(out, kXLoadFlags, image.xloadflags);
  StoreAt(out, kCommandLineSize, image.command_line_size);
  StoreAt(out, kPreferredAddress, image.preferred_address);
  StoreAt(out, kInitSize, image.init_size);
  Append(out, image.kernel);
  return out;
}

Fd MakeMemoryFile(const std::vector<uint8_t>& bytes) {
  Fd fd(memfd_create("image", MFD_CLOEXEC));
  DROVER_CHECK(fd.valid());
  const absl::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  DROVER_CHECK(WriteAll(fd.get(), text).ok());
  return fd;
}

}  // namespace drover
